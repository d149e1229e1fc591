"""Automatic mixed precision with bfloat16."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "amp",
    ("AMP bf16", "AMP bf16"),
    (
        "Autocast to bfloat16.",
        "自动转换到 bfloat16。",
    ),
    amp=True,
)
