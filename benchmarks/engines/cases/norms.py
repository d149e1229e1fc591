"""Many small tensors, with no weight decay on normalization layers."""

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.job import Job

MANY = Job(
    model="many",
    iterations=300,
    optimizer={"lr": 1e-3, "weight_decay": 0.05},
    norm_decay=False,
    schedule="poly",
)
CASE = Case(
    name="norms",
    title="161 tensors, norm decay 0",
    about=(
        "161 parameter tensors, as many as in a ResNet-50, with 16 channels. Batch size 4, AdamW, "
        "polynomial decay of the learning rate."
    ),
    kind="train",
    figures=(STEP,),
    job=MANY,
    goals=steady_goals(BESIDE_THE_LOOP),
)
