"""Automatic mixed precision with bfloat16."""

from benchmarks.engines.cases.fused import fused_case

CASE = fused_case(
    "amp",
    ("AMP bf16", "AMP bf16"),
    (
        "Mixed precision with autocast to bfloat16.",
        "用 autocast 进行 bfloat16 混合精度训练。",
    ),
    amp=True,
)
