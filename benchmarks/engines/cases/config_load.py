"""Loading a large config."""

from benchmarks.engines.case import Case, Figure

CASE = Case(
    name="config-load",
    title=("Reading a config", "读取配置"),
    about=(
        "The time that `Config.fromfile` takes for a chain of three files, each inheriting from the "
        "next, with about 4,000 values in total. The values are medians of ten.",
        "`Config.fromfile` 读取三个依次继承的文件的时间，共约 4,000 个值。取十次的中位数。",
    ),
    kind="config_load",
    figures=(Figure("ms", ("reading", "读取"), "ms", 1),),
    engines=("footplate", "mmengine", "onedl"),
    seconds=(("", 2.0),),
)
