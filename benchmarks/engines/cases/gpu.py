"""The goal that needs a GPU, which stays open here."""

from benchmarks.engines.case import Case, Goal

CASE = Case(
    name="gpu",
    title=("ResNet-50 on a GPU", "GPU 上的 ResNet-50"),
    about=(
        "Run `python -m benchmarks.engines.gpu` on a machine with a GPU.",
        "在有 GPU 的机器上运行 `python -m benchmarks.engines.gpu`。",
    ),
    kind="none",
    figures=(),
    engines=(),
    goals=(
        Goal(
            (
                "a step is at least 0.99 times as fast as in the best bare loop (AMP, channels_last, "
                "compiled and not); no copies to the host between log lines",
                "一步的速度不低于最佳裸循环的 0.99（AMP、channels_last、编译与不编译），日志行之间没有到主机的拷贝",
            ),
            by="open",
        ),
    ),
)
