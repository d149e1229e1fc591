"""Many small tensors with PyTorch's fused optimizer, its fastest option for them."""

import dataclasses
from typing import Any

from benchmarks.engines.case import BESIDE_THE_LOOP, STEP, Case, Words, steady_goals
from benchmarks.engines.cases.norms import MANY

_FUSED = dataclasses.replace(MANY, optimizer={**MANY.optimizer, "fused": True})


def fused_case(name: str, title: Words, about: Words, **changes: Any) -> Case:
    """Builds a case that trains 161 tensors with the fused optimizer.

    Args:
        name: See `Case`.
        title: See `Case`; in both languages.
        about: See `Case`; in both languages.
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
    ("161 tensors, fused AdamW", "161 个张量，融合的 AdamW"),
    (
        "The same as `norms`, with `fused=True`. The following cases also use the fused optimizer.",
        "与 `norms` 相同，但设置 `fused=True`。以下各项也使用融合的优化器。",
    ),
)
