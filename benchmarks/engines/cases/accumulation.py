"""Gradient accumulation over four forward passes."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "accumulation",
    ("Accumulation", "梯度累积"),
    (
        "One optimizer step every four iterations.",
        "每 4 次迭代更新一次优化器。",
    ),
    accumulate=4,
)
