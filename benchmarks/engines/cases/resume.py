"""Resuming from a checkpoint, early and late in a run."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="resume",
    title=("Resuming", "恢复训练"),
    about=(
        "This is the time from the construction of the Runner to the first iteration of a resumed run. It is "
        "measured for checkpoints of `tiny` after iteration 100 and after iteration 100,000. The dataset has "
        "100,000 samples and is shuffled. The batch size is 1. The values are medians of five measurements.",
        "下表列出恢复训练的耗时，即从开始构建 Runner 到进行下一次迭代的时间。测试使用 `tiny` 分别在第 100 次和第 "
        "100,000 次迭代后保存的检查点。数据集有 100,000 个样本，打乱顺序读取，批次大小为 1。取五次测量的中位数。",
    ),
    kind="resume",
    figures=(
        Figure("ms_100", ("after 100", "第 100 次迭代后"), "ms"),
        Figure("ms_100k", ("after 100,000", "第 100,000 次迭代后"), "ms"),
    ),
    engines=("footplate", "mmengine"),
    job=Job(iterations=100_000),
    quick=500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            (
                "resuming after iteration 100,000 takes within 10% of the time that it takes after iteration 100",
                "在第 100,000 次迭代后恢复训练的耗时，比在第 100 次迭代后恢复最多长 10%",
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
