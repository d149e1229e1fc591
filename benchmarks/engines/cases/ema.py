"""Exponential moving average of the weights."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "ema",
    ("EMA", "EMA"),
    (
        "An exponential moving average of all weights after every iteration; buffers are copied.",
        "每次迭代后对全部权重做指数平均，统计量照抄。",
    ),
    ema=True,
)
