"""Many small tensors with PyTorch's fused optimizer, its fastest option for them."""

import dataclasses
from typing import Any

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, steady_goals
from benchmarks.engines.cases.norms import MANY

_FUSED = dataclasses.replace(MANY, optimizer={**MANY.optimizer, "fused": True})


def fused_case(name: str, title: str, about: str, **changes: Any) -> Case:
    """Builds a case that trains 161 tensors with the fused optimizer.

    Args:
        name: See `Case`.
        title: See `Case`.
        about: See `Case`.
        changes: The changes to the job.
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
    "161 tensors, fused AdamW",
    "The same as `norms`, with `fused=True`. The following cases also use the fused optimizer.",
)
