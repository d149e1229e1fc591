"""How long checkpoints hold a training up."""

from benchmarks.engines.case import Case, Figure
from benchmarks.engines.job import Job

CASE = Case(
    name="saving",
    title=("Saving a checkpoint", "保存检查点"),
    about=(
        "By how much a checkpoint of 4 million parameters with AdamW's state, 49 MB, delays the training: one "
        "every 50 of 300 iterations.",
        "一个 400 万参数、连同 AdamW 状态共 49 MB 的检查点使训练延迟多少：300 次迭代中每 50 次保存一个。",
    ),
    kind="saving",
    figures=(Figure("ms", ("delay by one", "每次延迟"), "ms"),),
    job=Job(model="heavy", iterations=300, save_every=50),
    quick=104,
    rounds=1,
    seconds=(("", 6.0),),
)
