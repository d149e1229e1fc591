"""The norm of gradients, bounded."""

import dataclasses

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.cases.fused import FUSED

CASE = Case(
    name="clipping",
    title=("Clipping", "梯度裁剪"),
    about=(
        "Gradients clipped to a norm of 1; footplate, mmengine and the bare loop log the norm.",
        "梯度范数裁剪到 1；footplate、mmengine 与裸循环记录范数。",
    ),
    kind="train",
    figures=(STEP,),
    job=dataclasses.replace(FUSED, clip=1.0),
    goals=steady_goals(BESIDE_THE_LOOP),
)
