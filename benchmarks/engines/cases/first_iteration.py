"""The time from a config file to the first iteration."""

from benchmarks.engines.case import Case, Figure, Goal

CASE = Case(
    name="first-iteration",
    title=("Config to first iteration", "从配置到第一次迭代"),
    about=(
        "The time from `Config.fromfile` of five small files to the first `before_train_iter`, after all "
        "imports. footplate runs with and without its preflight. The first run of a process also imports "
        "modules that are loaded on first use.",
        "从 `Config.fromfile` 读入五个小文件到第一次 `before_train_iter`，导入已完成；footplate 分别关闭与打开预检。"
        "进程中的第一次运行会导入首次使用时才导入的内容。",
    ),
    kind="first_iteration",
    figures=(
        Figure("ms", ("without preflight", "无预检"), "ms"),
        Figure("preflight_ms", ("with preflight", "有预检"), "ms"),
        Figure("cold_ms", ("first run of the process", "进程中的第一次运行"), "ms"),
    ),
    engines=("footplate", "mmengine", "onedl"),
    alone=True,
    goals=(Goal(("at most half of mmengine's", "不超过 mmengine 的一半"), "ms", 0.5, "ratio", "mmengine"),),
    seconds=(("", 5.0),),
)
