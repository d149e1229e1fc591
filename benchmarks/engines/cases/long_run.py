"""Iteration time and memory growth over a long run."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="long",
    title=("Long runs", "长时间运行"),
    about=(
        "Every engine runs the case `tiny` for 100,000 iterations; the bare loop and footplate run it "
        "for 1,000,000. Times are medians over 10,000 iterations. Memory growth is the increase in the "
        "anonymous resident memory of the process, which excludes mapped files, between iterations 1,000"
        " and 100,000.",
        "footplate 和纯 PyTorch 用 `tiny` 运行 1,000,000 次迭代，其他引擎运行 100,000 次。表中的耗时取 10,000 次"
        "迭代的中位数。内存增长是指从第 1,000 次到第 100,000 次迭代，进程的匿名驻留内存（不包括映射的文件）的增长"
        "量。",
    ),
    kind="long",
    figures=(
        Figure("us_start", ("at the start", "开始时"), "us"),
        Figure("us_100k", ("at 100,000", "第 100,000 次"), "us"),
        Figure("us_1m", ("at 1,000,000", "第 1,000,000 次"), "us"),
        Figure("growth_mb", ("memory growth", "内存增长"), "MB", 2),
    ),
    job=Job(iterations=100_000),
    longer=(("bare", 1_000_000), ("footplate", 1_000_000)),
    quick=1_500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            (
                "iteration time after 1,000,000 iterations within 10% of that at the start",
                "1,000,000 次迭代后，单次迭代的耗时比开始时最多长 10%",
            ),
            "us_1m",
            1.10,
            "ratio",
            "footplate",
            "us_start",
        ),
        Goal(
            (
                "memory growth from iteration 1,000 to 100,000: at most 1 MB more than the bare loop",
                "从第 1,000 次到第 100,000 次迭代，内存的增长量最多比纯 PyTorch 多 1 MB",
            ),
            "growth_mb",
            1.0,
            "difference",
            "bare",
            unit="MB",
        ),
    ),
    seconds=(
        ("", 30.0),
        ("bare", 210.0),
        ("footplate", 230.0),
        ("mmengine", 55.0),
        ("onedl", 55.0),
        ("lightning", 80.0),
        ("transformers", 70.0),
    ),
)
