"""The delay of training by checkpoints."""

from benchmarks.engines.case import Case, Figure
from benchmarks.engines.job import Job

CASE = Case(
    name="saving",
    title=("Saving a checkpoint", "保存检查点"),
    about=(
        "This is the time by which saving a checkpoint delays training. The checkpoint takes up 49 MB and "
        "contains 4 million parameters and the state of AdamW. A checkpoint is saved every 10 iterations in a "
        "run of 310 iterations. Delays close to zero, whether positive or negative, are within the noise.",
        "下表列出保存检查点使训练延迟的时间。检查点大小为 49 MB，包含 400 万个参数和 AdamW 的状态。训练共 310 次"
        "迭代，每 10 次迭代保存一个检查点。接近零的数值（无论正负）属于测量噪声。",
    ),
    kind="saving",
    figures=(Figure("ms", ("delay per checkpoint", "每个检查点的延迟"), "ms"),),
    job=Job(model="heavy", iterations=310, save_every=10),
    quick=104,
    rounds=3,
    seconds=(("", 9.0),),
)
