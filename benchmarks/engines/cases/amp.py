"""Automatic mixed precision with bfloat16."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "amp",
    "AMP bf16",
    "Mixed precision with autocast to bfloat16.",
    amp=True,
)
