"""An average of the weights, beside the training."""

import dataclasses

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.cases.fused import FUSED

CASE = Case(
    name="ema",
    title=("EMA", "EMA"),
    about=(
        "An exponential average of all weights after every iteration, statistics copied.",
        "每次迭代后对全部权重做指数平均，统计量照抄。",
    ),
    kind="train",
    figures=(STEP,),
    job=dataclasses.replace(FUSED, ema=True),
    goals=steady_goals(BESIDE_THE_LOOP),
)
