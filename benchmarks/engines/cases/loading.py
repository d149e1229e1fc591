"""Data loading in the main process and with two workers."""

import dataclasses

from benchmarks.engines.case import STEP, Case
from benchmarks.engines.job import Job

_JOB = Job(model="small", iterations=500, batch_size=16, workers=0)
CASE_0 = Case(
    name="loading-0",
    title=("Data loading, 0 workers", "数据加载，0 个 worker"),
    about=(
        "Batches of 16 images of 32 x 32 pixels, randomly flipped and shuffled, with torch's default collate function.",
        "每批 16 张 32 x 32 的图片，随机翻转，打乱，用 torch 默认的 collate。",
    ),
    kind="train",
    figures=(STEP,),
    job=_JOB,
)
CASE_2 = dataclasses.replace(
    CASE_0,
    name="loading-2",
    title=("Data loading, 2 workers", "数据加载，2 个 worker"),
    about=("The same with two workers.", "同上，两个 worker。"),
    job=dataclasses.replace(_JOB, workers=2),
    seconds=(("", 4.0),),
)
