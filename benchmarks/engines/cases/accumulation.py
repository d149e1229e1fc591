"""Gradient accumulation over four forward passes."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "accumulation",
    ("Accumulation", "梯度累积"),
    (
        "One optimizer step for every four iterations.",
        "每四次迭代更新一次参数。",
    ),
    accumulate=4,
)
