"""The time from a config file to the first iteration."""

from benchmarks.engines.case import Case, Figure, Goal

CASE = Case(
    name="first-iteration",
    title=("Config to first iteration", "从配置到第一次迭代"),
    about=(
        "This is the time from calling `Config.fromfile` on a config of five small files to the first "
        "`before_train_iter`, excluding imports. footplate is measured with and without its preflight check. "
        "The first run of a process also imports modules that are loaded on first use.",
        "表中是从 `Config.fromfile` 读取五个小文件到第一次 `before_train_iter` 的时间，不包括导入。fo"
        "otplate 分别在启用和不启用训练前检查时测量。进程中的第一次运行还会导入首次使用时才加载的模块"
        "。",
    ),
    kind="first_iteration",
    figures=(
        Figure("ms", ("without preflight", "无训练前检查"), "ms"),
        Figure("preflight_ms", ("with preflight", "有训练前检查"), "ms"),
        Figure("cold_ms", ("first run of the process", "进程中的第一次运行"), "ms"),
    ),
    engines=("footplate", "mmengine", "onedl"),
    alone=True,
    goals=(Goal(("at most half the time of mmengine", "不超过 mmengine 的一半"), "ms", 0.5, "ratio", "mmengine"),),
    seconds=(("", 5.0),),
)
