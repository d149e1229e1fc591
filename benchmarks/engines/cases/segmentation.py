"""The time that a recipe needs to reach a target metric."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

WHO = ("bare", "footplate", "mmengine", "lightning")
_AHEAD = {
    "mmengine": ("faster than mmengine", "快于 mmengine"),
    "lightning": ("faster than Lightning", "快于 Lightning"),
}
CASE = Case(
    name="fashion-seg",
    title=("fashion-seg, end to end", "fashion-seg，端到端"),
    about=(
        "This is the time from the start of the process to a validation with an mIoU of at least 50. "
        "All engines use the same model, data, dataloaders and metric. They validate every 100 "
        "iterations and do not save images or checkpoints.",
        "下表列出从进程启动到验证的 mIoU 首次达到 50 的时间。所有引擎使用相同的模型、数据、数据加载器和指标，每 "
        "100 次迭代验证一次，不保存图像和检查点。",
    ),
    kind="segment",
    figures=(
        Figure("seconds", ("time to mIoU 50", "达到 mIoU 50 的时间"), "s", 1),
        Figure("iterations", ("iterations", "迭代次数"), ""),
        Figure("mIoU", ("mIoU", "mIoU"), "", 2),
    ),
    engines=WHO,
    job=Job(iterations=1100, save_every=0),
    quick=4,
    rounds=3,
    alone=True,
    threads=0,
    goals=tuple(Goal(text, "seconds", 1.0, "ratio", engine) for engine, text in _AHEAD.items()),
    seconds=(("", 75.0),),
)
