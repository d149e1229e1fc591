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
    title=("161 tensors, norm decay 0", "161 个张量，归一化层不衰减"),
    about=(
        "161 parameter tensors, as in a ResNet-50, with 16 channels; batch size 4, AdamW, polynomial decay.",
        "161 个参数张量，数量同 ResNet-50，宽 16 通道，批大小 4，AdamW，poly 衰减。",
    ),
    kind="train",
    figures=(STEP,),
    job=MANY,
    goals=steady_goals(BESIDE_THE_LOOP),
)
