"""Loading a large config."""

from benchmarks.engines.case import Case, Figure

CASE = Case(
    name="config-load",
    title=("Reading a config", "读取配置"),
    about=(
        "This is the time that `Config.fromfile` takes for a chain of three files that inherit from "
        "each other, with about 4,000 values in total. The times are medians of ten measurements.",
        "表中是 `Config.fromfile` 读取三个依次继承的文件（共约 4,000 个值）的时间。取十次测量的中位数。",
    ),
    kind="config_load",
    figures=(Figure("ms", ("reading", "读取"), "ms", 1),),
    engines=("footplate", "mmengine", "onedl"),
    seconds=(("", 2.0),),
)
