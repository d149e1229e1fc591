"""The time that a recipe needs to reach a target metric."""

from benchmarks.engines.case import Case, Figure, Goal
from benchmarks.engines.job import Job

WHO = ("bare", "footplate", "mmengine", "lightning", "transformers")
_AHEAD = {
    "mmengine": "faster than mmengine",
    "lightning": "faster than Lightning",
    "transformers": "faster than Trainer",
}
CASE = Case(
    name="fashion-seg",
    title="fashion-seg, end to end",
    about=(
        "This is the time from the start of the process to a validation with an mIoU of at least 55. "
        "All engines use the same model, data, dataloaders and metric. They validate every 100 "
        "iterations and do not save images or checkpoints."
    ),
    kind="segment",
    figures=(
        Figure("seconds", "time to mIoU 55", "s", 1),
        Figure("processor", "CPU time", "s", 1),
        Figure("iterations", "iterations", ""),
        Figure("mIoU", "mIoU", "", 2),
    ),
    engines=WHO,
    job=Job(iterations=1600, save_every=0),
    quick=4,
    rounds=3,
    alone=True,
    threads=0,
    goals=tuple(Goal(text, "seconds", 1.0, "ratio", engine) for engine, text in _AHEAD.items()),
    seconds=(("", 75.0),),
)
