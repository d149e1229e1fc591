"""Loading a large config."""

from benchmarks.engines.case import Case, Figure

CASE = Case(
    name="config-load",
    title=("Reading a config", "读取配置"),
    about=(
        "This is the time that `Config.fromfile` takes for a chain of three files that inherit from "
        "each other, with about 4,000 values in total. The times are medians of ten measurements.",
        "下表列出 `Config.fromfile` 读取一个配置的时间。该配置由三个依次继承的文件组成，共有约 4,000 个值。取十次"
        "测量的中位数。",
    ),
    kind="config_load",
    figures=(Figure("ms", ("reading", "读取"), "ms", 1),),
    engines=("footplate", "mmengine", "onedl"),
    seconds=(("", 2.0),),
)
