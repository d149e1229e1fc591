"""The overhead of the engine, measured with a tiny model."""

from benchmarks.engines.case import STEP, Case, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="tiny",
    title="Tiny model",
    about=(
        "Two linear layers (32-64-2), batch size 8, AdamW, linear decay of the learning rate, all "
        "default hooks, a log line every 50 iterations."
    ),
    kind="train",
    figures=(STEP,),
    job=Job(iterations=3000),
    goals=(
        Goal(
            "at most 15 us slower than the bare loop",
            "us",
            15.0,
            "difference",
            "bare",
            unit="us",
        ),
        Goal("faster than ignite", "us", 1.0, "ratio", "ignite"),
    ),
    seconds=(("", 3.0), ("lightning", 5.0), ("transformers", 5.0)),
)
