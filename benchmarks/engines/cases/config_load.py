"""Loading a large config."""

from benchmarks.engines.case import Case, Figure

CASE = Case(
    name="config-load",
    title=("Reading a config", "读取配置"),
    about=(
        "`Config.fromfile` of three files that inherit from each other, with about 4,000 values in total; the "
        "median of ten.",
        "`Config.fromfile` 读取三个相互继承的文件，合计约 4,000 个值；十次的中位数。",
    ),
    kind="config_load",
    figures=(Figure("ms", ("reading", "读取"), "ms", 1),),
    engines=("footplate", "mmengine", "onedl"),
    seconds=(("", 2.0),),
)
