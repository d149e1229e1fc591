"""Gradient accumulation over four forward passes."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "accumulation",
    "Accumulation",
    "One optimizer step for every four iterations.",
    accumulate=4,
)
