"""The overhead of the engine, measured with a tiny model."""

from benchmarks.engines.case import STEP, Case, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="tiny",
    title=("Tiny model", "极小模型"),
    about=(
        "Linear layers 32-64-2, batch size 8, AdamW, linear decay, all default hooks, a log line every 50 iterations.",
        "Linear 32-64-2，批大小 8，AdamW，线性衰减，全部默认钩子，每 50 次迭代一行日志。",
    ),
    kind="train",
    figures=(STEP,),
    job=Job(iterations=3000),
    goals=(
        Goal(
            ("at most 15 us above the bare loop", "比裸循环最多多 15 us"), "us", 15.0, "difference", "bare", unit="us"
        ),
        Goal(("below ignite", "低于 ignite"), "us", 1.0, "ratio", "ignite"),
    ),
    seconds=(("", 3.0), ("lightning", 5.0), ("transformers", 5.0)),
)
