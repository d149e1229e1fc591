"""One validation pass with an accuracy metric."""

from benchmarks.engines.case import STEP, Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="validation",
    title=("Validation loop", "验证循环"),
    about=(
        "Validation of the model from `norms` on 200 batches, with the accuracy over all samples as the "
        "metric. Only the loop is timed.",
        "用 200 个批次验证 `norms` 的模型，计算全部样本的准确率。只测量验证循环的耗时。",
    ),
    kind="validate",
    figures=(STEP, Figure("us_inference", ("with `inference_mode=True`", "`inference_mode=True` 时"), "us")),
    job=Job(model="many", iterations=200, batch_size=4),
    goals=(
        Goal(("at most 1.05 x the bare loop", "不超过纯 PyTorch 的 1.05 倍"), "us", 1.05, "ratio", "bare"),
        Goal(
            (
                "same as above, with `torch.inference_mode` in footplate",
                "同上，但 footplate 也使用 `torch.inference_mode`",
            ),
            "us_inference",
            1.05,
            "ratio",
            "bare",
            against_figure="us",
        ),
    ),
)
