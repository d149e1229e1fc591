"""Loading a large config."""

from benchmarks.engines.case import Case, Figure

CASE = Case(
    name="config-load",
    title="Reading a config",
    about=(
        "This is the time that `Config.fromfile` takes for a chain of three files that inherit from "
        "each other, with about 4,000 values in total. The times are medians of ten measurements."
    ),
    kind="config_load",
    figures=(Figure("ms", "reading", "ms", 1),),
    engines=("footplate", "mmengine", "onedl"),
    seconds=(("", 2.0),),
)
