"""The time from a config file to the first iteration."""

from benchmarks.engines.case import Case, Figure, Goal

CASE = Case(
    name="first-iteration",
    title=("Config to first iteration", "从配置到第一次迭代"),
    about=(
        "This is the time from calling `Config.fromfile` on a config of five small files to the first "
        "`before_train_iter`, excluding imports. footplate is measured with and without its preflight check. "
        "The first run of a process also imports modules that are loaded on first use.",
        "下表列出从 `Config.fromfile` 开始读取配置（五个小文件）到首次调用 `before_train_iter` 的时间，不包括导入"
        "包的时间。footplate 分别在启用和不启用训练前检查的情况下测量。进程中的第一次运行还要导入首次使用时才加载"
        "的模块。",
    ),
    kind="first_iteration",
    figures=(
        Figure("ms", ("without preflight", "无训练前检查"), "ms"),
        Figure("preflight_ms", ("with preflight", "有训练前检查"), "ms"),
        Figure("cold_ms", ("first run of the process", "进程中的第一次运行"), "ms"),
    ),
    engines=("footplate", "mmengine", "onedl"),
    alone=True,
    goals=(Goal(("at most half the time of mmengine", "耗时不超过 mmengine 的一半"), "ms", 0.5, "ratio", "mmengine"),),
    seconds=(("", 5.0),),
)
