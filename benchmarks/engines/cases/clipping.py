"""Gradient norm clipping."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "clipping",
    ("Clipping", "梯度裁剪"),
    (
        "Gradients are clipped to a norm of 1. footplate, mmengine and the bare loop log the norm.",
        "将梯度的范数裁剪到 1。footplate、mmengine 和纯 PyTorch 还会在日志中记录梯度的范数。",
    ),
    clip=1.0,
)
