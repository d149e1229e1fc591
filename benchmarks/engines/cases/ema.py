"""Exponential moving average of the weights."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "ema",
    "EMA",
    "An exponential moving average of all weights, updated after each iteration. Buffers are copied.",
    ema=True,
)
