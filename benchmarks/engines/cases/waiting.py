"""The time that training waits for data from one worker."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.cases.segmentation import WHO
from benchmarks.engines.job import Job

CASE = Case(
    name="waiting",
    title=("Waiting for data", "等待数据"),
    about=(
        "This is the share of time that `fashion-seg` spends waiting for batches from one worker, "
        "measured after iteration 20.",
        "下表列出训练 `fashion-seg` 时等待批次的时间占训练时间的比例。训练使用一个 worker，从第 20 次迭代之后开始"
        "测量。",
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
            ("less than 2% of the time with one worker", "使用一个 worker 时，等待时间的占比低于 2%"),
            "waited_percent",
            2.0,
            "value",
            unit="%",
        ),
    ),
    seconds=(("", 15.0),),
)
