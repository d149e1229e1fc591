"""The time from a config file to the first iteration."""

from benchmarks.engines.case import Case, Figure, Goal

CASE = Case(
    name="first-iteration",
    title="Config to first iteration",
    about=(
        "This is the time from calling `Config.fromfile` on a config of five small files to the first "
        "`before_train_iter`, excluding imports. footplate is measured with and without its preflight check. "
        "The first run of a process also imports modules that are loaded on first use."
    ),
    kind="first_iteration",
    figures=(
        Figure("ms", "without preflight", "ms"),
        Figure("preflight_ms", "with preflight", "ms"),
        Figure("cold_ms", "first run of the process", "ms"),
    ),
    engines=("footplate", "mmengine", "onedl"),
    alone=True,
    goals=(Goal("at most half the time of mmengine", "ms", 0.5, "ratio", "mmengine"),),
    seconds=(("", 5.0),),
)
