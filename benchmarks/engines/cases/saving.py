"""The delay of training by checkpoints."""

from benchmarks.engines.case import Case, Figure
from benchmarks.engines.job import Job

CASE = Case(
    name="saving",
    title=("Saving a checkpoint", "保存检查点"),
    about=(
        "The delay of training by a checkpoint of 49 MB, which holds 4 million parameters and the state of "
        "AdamW. One checkpoint is saved every 10 of 310 iterations. A delay close to zero, positive or "
        "negative, is within the noise.",
        "一个 400 万参数、连同 AdamW 状态共 49 MB 的检查点使训练延迟多少：310 次迭代中每 10 次保存一个。"
        "接近零的延迟（无论正负）表示与没有延迟无法区分。",
    ),
    kind="saving",
    figures=(Figure("ms", ("delay per checkpoint", "每次延迟"), "ms"),),
    job=Job(model="heavy", iterations=310, save_every=10),
    quick=104,
    rounds=3,
    seconds=(("", 9.0),),
)
