"""Resuming from a checkpoint, early and late in a run."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="resume",
    title="Resuming",
    about=(
        "This is the time from the construction of the Runner to the first iteration of a resumed run. It is "
        "measured for checkpoints of `tiny` after iteration 100 and after iteration 100,000. The dataset has "
        "100,000 samples and is shuffled. The batch size is 1. The values are medians of five measurements."
    ),
    kind="resume",
    figures=(
        Figure("ms_100", "after 100", "ms"),
        Figure("ms_100k", "after 100,000", "ms"),
    ),
    engines=("footplate", "mmengine"),
    job=Job(iterations=100_000),
    quick=500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            "resuming after iteration 100,000 takes within 10% of the time that it takes after iteration 100",
            "ms_100k",
            1.10,
            "ratio",
            "footplate",
            "ms_100",
        ),
    ),
    seconds=(("footplate", 45.0), ("mmengine", 90.0), ("", 60.0)),
)
