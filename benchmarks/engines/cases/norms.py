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
    title=("161 tensors, norm decay 0", "161 个张量，归一化层不使用权重衰减"),
    about=(
        "161 parameter tensors, as many as in a ResNet-50, with 16 channels. Batch size 4, AdamW, "
        "polynomial decay of the learning rate.",
        "161 个参数张量（数量与 ResNet-50 相同），16 个通道，批次大小为 4，使用 AdamW，学习率按多项式衰减。",
    ),
    kind="train",
    figures=(STEP,),
    job=MANY,
    goals=steady_goals(BESIDE_THE_LOOP),
)
