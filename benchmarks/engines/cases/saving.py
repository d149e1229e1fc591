"""The delay of training by checkpoints."""

from benchmarks.engines.case import Case, Figure
from benchmarks.engines.job import Job

CASE = Case(
    name="saving",
    title="Saving a checkpoint",
    about=(
        "This is how long a checkpoint save delays training. The checkpoint takes up 49 MB and "
        "contains 4 million parameters and the state of AdamW. A checkpoint is saved every 10 iterations in a "
        "run of 310 iterations. Delays close to zero, whether positive or negative, are within the noise."
    ),
    kind="saving",
    figures=(Figure("ms", "delay per checkpoint", "ms"),),
    job=Job(model="heavy", iterations=310, save_every=10),
    quick=104,
    rounds=3,
    seconds=(("", 9.0),),
)
