"""The overhead of the engine, measured with a tiny model."""

from benchmarks.engines.case import STEP, Case, Goal
from benchmarks.engines.job import Job

CASE = Case(
    name="tiny",
    title=("Tiny model", "小模型"),
    about=(
        "Two linear layers (32-64-2), batch size 8, AdamW, linear decay of the learning rate, all "
        "default hooks, a log line every 50 iterations.",
        "两个线性层（32-64-2），批次大小为 8，使用 AdamW，学习率线性衰减，启用全部默认钩子，每 50 次迭代写一行日志。",
    ),
    kind="train",
    figures=(STEP,),
    job=Job(iterations=3000),
    goals=(
        Goal(
            ("at most 15 us slower than the bare loop", "最多比纯 PyTorch 慢 15 us"),
            "us",
            15.0,
            "difference",
            "bare",
            unit="us",
        ),
        Goal(("faster than ignite", "快于 ignite"), "us", 1.0, "ratio", "ignite"),
    ),
    seconds=(("", 3.0), ("lightning", 5.0), ("transformers", 5.0)),
)
