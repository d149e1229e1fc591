"""The time that training waits for data from one worker."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.cases.segmentation import WHO
from benchmarks.engines.job import Job

CASE = Case(
    name="waiting",
    title=("Waiting for data", "等待数据"),
    about=(
        "The share of time that `fashion-seg` waits for batches with one worker, after iteration 20.",
        "`fashion-seg` 使用一个 worker 时等待批次的时间占比，自第 20 次迭代起。",
    ),
    kind="segment",
    figures=(Figure("waited_percent", ("waiting", "等待"), "%", 2),),
    engines=WHO,
    job=Job(iterations=120, workers=1),
    quick=4,
    rounds=3,
    alone=True,
    threads=0,
    goals=(
        Goal(
            ("under 2 percent of the time with 1 worker", "一个 worker 时低于 2%"),
            "waited_percent",
            2.0,
            "value",
            unit="%",
        ),
    ),
    seconds=(("", 15.0),),
)
