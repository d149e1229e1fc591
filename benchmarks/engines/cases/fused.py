"""The same with PyTorch's fused optimizer, which is its best call for many small tensors."""

import dataclasses

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.cases.norms import MANY

FUSED = dataclasses.replace(MANY, optimizer={**MANY.optimizer, "fused": True})
CASE = Case(
    name="fused",
    title=("161 tensors, fused AdamW", "161 个张量，融合的 AdamW"),
    about=("`norms` with `fused=True`, as are the cases below.", "`norms` 加 `fused=True`，以下各项也是如此。"),
    kind="train",
    figures=(STEP,),
    job=FUSED,
    goals=steady_goals(BESIDE_THE_LOOP),
)
