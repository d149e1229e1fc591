"""One validation pass with an accuracy metric."""

from benchmarks.engines.case import STEP, Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="validation",
    title=("Validation loop", "验证循环"),
    about=(
        "200 batches through the model of `norms`, with the accuracy over all samples; only the loop is timed.",
        "200 个批次通过 `norms` 的模型，计算总体准确率；只计循环本身的时间。",
    ),
    kind="validate",
    figures=(STEP, Figure("us_inference", ("with `inference_mode=True`", "`inference_mode=True` 时"), "us")),
    job=Job(model="many", iterations=200, batch_size=4),
    goals=(
        Goal(("at most 1.05 x the bare loop", "不超过裸循环的 1.05 倍"), "us", 1.05, "ratio", "bare"),
        Goal(
            ("the same, with `torch.inference_mode` in both", "同上，两者都用 `torch.inference_mode`"),
            "us_inference",
            1.05,
            "ratio",
            "bare",
            against_figure="us",
        ),
    ),
)
