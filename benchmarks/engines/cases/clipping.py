"""Gradient norm clipping."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "clipping",
    "Clipping",
    "Gradients are clipped to a norm of 1. footplate, mmengine and the bare loop log the norm.",
    clip=1.0,
)
