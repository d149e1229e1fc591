"""One validation pass with an accuracy metric."""

import dataclasses

from benchmarks.engines.case import STEP, Case, Figure, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="validation",
    title="Validation loop",
    about=(
        "Validation of the model from `norms` on 200 batches, with the accuracy over all samples as the "
        "metric. Only the loop is timed, in the second of two passes."
    ),
    kind="validate",
    figures=(STEP, Figure("us_inference", "with `inference_mode=True`", "us")),
    job=Job(model="many", iterations=200, batch_size=4),
    goals=(
        Goal("at most 1.02 x the bare loop", "us", 1.02, "ratio", "bare"),
        Goal("at most 1.02 x the bare loop, both with `torch.inference_mode`", "us_inference", 1.02, "ratio", "bare"),
    ),
)
CASE_RESNET = dataclasses.replace(
    CASE,
    name="validation-resnet",
    title="Validation loop, ResNet-50",
    about="The same as `validation`, with a ResNet-50 on 52 batches of four images of 128 x 128 pixels.",
    job=Job(model="resnet", iterations=52, batch_size=4),
    seconds=(("", 50.0),),
)
