"""Four forward passes a step."""

import dataclasses

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.cases.fused import FUSED

CASE = Case(
    name="accumulation",
    title=("Accumulation", "梯度累积"),
    about=(
        "Four iterations a step of the optimizer.",
        "每 4 次迭代更新一次优化器。",
    ),
    kind="train",
    figures=(STEP,),
    job=dataclasses.replace(FUSED, accumulate=4),
    goals=steady_goals(BESIDE_THE_LOOP),
)
