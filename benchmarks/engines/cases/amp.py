"""Half precision."""

import dataclasses

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.cases.fused import FUSED

CASE = Case(
    name="amp",
    title=("AMP bf16", "AMP bf16"),
    about=(
        "Autocast to bfloat16.",
        "自动转换到 bfloat16。",
    ),
    kind="train",
    figures=(STEP,),
    job=dataclasses.replace(FUSED, amp=True),
    goals=steady_goals(BESIDE_THE_LOOP),
)
