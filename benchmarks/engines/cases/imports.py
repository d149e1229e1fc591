"""The cost of imports and of `--help`."""

from benchmarks.engines.case import Case, Figure, Goal

CASE = Case(
    name="imports",
    title=("Imports and --help", "导入与 --help"),
    about=(
        "Each duration is measured in a new process: the time that `import ENGINE` adds to an empty "
        "process, the time to import everything that training needs (including torch), and the time "
        "of `footplate --help`. The values are medians of three measurements.",
        "下表列出三种耗时：`import 引擎` 使空进程增加的耗时、导入训练所需的全部内容（包括 torch）的耗时，以及 "
        "`footplate --help` 的耗时。每次测量都使用新的进程，取三次测量的中位数。",
    ),
    kind="imports",
    figures=(
        Figure("package_ms", ("import, added", "`import` 增加的耗时"), "ms"),
        Figure("names_ms", ("all imports for training", "导入训练所需的全部内容"), "ms"),
        Figure("help_ms", ("--help", "--help"), "ms"),
        Figure("torch_loaded", ("torch loaded by the import", "`import` 是否加载 torch"), ""),
    ),
    rounds=1,
    goals=(
        Goal(("`--help` in at most 0.25 s", "`--help` 的耗时不超过 0.25 s"), "help_ms", 250.0, "value", unit="ms"),
        Goal(
            ("`import footplate` adds at most 30 ms", "`import footplate` 使进程的启动时间最多增加 30 ms"),
            "package_ms",
            30.0,
            "value",
            unit="ms",
        ),
        Goal(
            ("`import footplate` does not import torch", "`import footplate` 不导入 torch"),
            "torch_loaded",
            0.0,
            "value",
        ),
    ),
    seconds=(("", 8.0), ("lightning", 25.0), ("transformers", 25.0)),
)
