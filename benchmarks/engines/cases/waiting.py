"""The time that training waits for data from one worker."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.cases.segmentation import WHO
from benchmarks.engines.job import Job

CASE = Case(
    name="waiting",
    title="Waiting for data",
    about=(
        "This is the share of time that `fashion-seg` spends waiting for batches from one worker, "
        "measured after iteration 20."
    ),
    kind="segment",
    figures=(Figure("waited_percent", "waiting", "%", 2),),
    engines=WHO,
    job=Job(iterations=120, workers=1),
    quick=4,
    rounds=3,
    alone=True,
    threads=0,
    goals=(
        Goal(
            "less than 2% of the time with one worker",
            "waited_percent",
            2.0,
            "value",
            unit="%",
        ),
    ),
    seconds=(("", 15.0),),
)
