"""Gradient accumulation over four forward passes."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "accumulation",
    ("Accumulation", "梯度累积"),
    (
        "Four iterations a step of the optimizer.",
        "每 4 次迭代更新一次优化器。",
    ),
    accumulate=4,
)
