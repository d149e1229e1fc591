"""The same with PyTorch's fused optimizer, which is its best call for many small tensors."""

import dataclasses
from typing import Any

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, Words, steady_goals
from benchmarks.engines.cases.norms import MANY

_FUSED = dataclasses.replace(MANY, optimizer={**MANY.optimizer, "fused": True})


def fused_case(name: str, title: Words, about: Words, **changes: Any) -> Case:
    """Returns a case that trains 161 tensors with the fused optimizer.

    Args:
        name: As of `Case`, as are title and about.
        title: In both languages.
        about: What it adds, in both languages.
        changes: Of the job.
    """
    return Case(
        name=name,
        title=title,
        about=about,
        kind="train",
        figures=(STEP,),
        job=dataclasses.replace(_FUSED, **changes),
        goals=steady_goals(BESIDE_THE_LOOP),
    )


CASE = fused_case(
    "fused",
    ("161 tensors, fused AdamW", "161 个张量，融合的 AdamW"),
    ("`norms` with `fused=True`, as are the cases below.", "`norms` 加 `fused=True`，以下各项也是如此。"),
)
