"""Iteration time and memory growth over a long run."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="long",
    title="Long runs",
    about=(
        "Every engine runs the case `tiny` for 100,000 iterations; the bare loop and footplate run it "
        "for 1,000,000. Times are medians over 10,000 iterations. Memory growth is the increase in the "
        "anonymous resident memory of the process, which excludes mapped files, between iterations 1,000"
        " and 100,000."
    ),
    kind="long",
    figures=(
        Figure("us_start", "at the start", "us"),
        Figure("us_100k", "at 100,000", "us"),
        Figure("us_1m", "at 1,000,000", "us"),
        Figure("growth_mb", "memory growth", "MB", 2),
    ),
    job=Job(iterations=100_000),
    longer=(("bare", 1_000_000), ("footplate", 1_000_000)),
    quick=1_500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            "iteration time after 1,000,000 iterations within 10% of that at the start",
            "us_1m",
            1.10,
            "ratio",
            "footplate",
            "us_start",
        ),
        Goal(
            "memory growth from iteration 1,000 to 100,000: at most 1 MB more than the bare loop",
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
