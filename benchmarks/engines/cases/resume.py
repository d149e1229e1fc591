"""Resuming from a checkpoint, early and late in a run."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="resume",
    title=("Resuming", "恢复训练"),
    about=(
        "The time from building the run to its next iteration, after iteration 100 and after iteration "
        "100,000 of `tiny`, with a shuffled dataset of 100,000 samples and batch size 1; the median of five.",
        "从构建运行到它的下一次迭代：`tiny` 的第 100 次之后与第 100,000 次之后；"
        "数据集 100,000 个样本，打乱，批大小 1；五次的中位数。",
    ),
    kind="resume",
    figures=(
        Figure("ms_100", ("after 100", "100 之后"), "ms"),
        Figure("ms_100k", ("after 100,000", "100,000 之后"), "ms"),
    ),
    engines=("footplate", "mmengine"),
    job=Job(iterations=100_000),
    quick=500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            (
                "after iteration 100,000, within 10 percent of iteration 100",
                "第 100,000 次之后与第 100 次之后相差 10% 以内",
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
