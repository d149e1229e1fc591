"""Resuming from a checkpoint, early and late in a run."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="resume",
    title=("Resuming", "恢复训练"),
    about=(
        "The time from building the Runner of a resumed run to its next iteration, for a checkpoint after "
        "iteration 100 and for one after iteration 100,000 of `tiny`. The dataset has 100,000 samples, is "
        "shuffled and has a batch size of 1. The values are medians of five.",
        "恢复训练时，从开始构建 Runner 到下一次迭代的时间，分别使用 `tiny` 第 100 次和第 100,0"
        "00 次迭代之后的检查点。数据集有 100,000 个样本，打乱顺序，批次大小为 1。取五次"
        "的中位数。",
    ),
    kind="resume",
    figures=(
        Figure("ms_100", ("after 100", "第 100 次迭代之后"), "ms"),
        Figure("ms_100k", ("after 100,000", "第 100,000 次迭代之后"), "ms"),
    ),
    engines=("footplate", "mmengine"),
    job=Job(iterations=100_000),
    quick=500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            (
                "after iteration 100,000, within 10 percent of the time after iteration 100",
                "第 100,000 次迭代之后与第 100 次迭代之后相差不超过 10%",
            ),
            "ms_100k",
            1.10,
            "ratio",
            "footplate",
            "ms_100",
        ),
    ),
    seconds=(("footplate", 45.0), ("mmengine", 90.0), ("", 60.0)),
)
