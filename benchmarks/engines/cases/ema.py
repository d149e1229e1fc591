"""Exponential moving average of the weights."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "ema",
    ("EMA", "EMA"),
    (
        "An exponential moving average of all weights, updated after each iteration. Buffers are copied.",
        "计算全部权重的指数移动平均，每次迭代后更新；buffer 则直接复制。",
    ),
    ema=True,
)
