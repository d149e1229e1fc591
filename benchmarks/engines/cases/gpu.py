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
                "at least 0.99 times the speed of the fastest bare loop (with AMP and channels-last, "
                "compiled or not), without copies to the host between log lines",
                "速度不低于最快的纯 PyTorch 循环的 0.99 倍（使用 AMP 和 channels last 内存格式，编译或不编译模型"
                "），并且在两行日志之间不向主机复制数据",
            ),
            by="open",
        ),
    ),
)
