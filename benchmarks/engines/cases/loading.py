"""Data loading in the main process and with two workers."""

import dataclasses

from benchmarks.engines.case import STEP, Case
from benchmarks.engines.job import Job

_JOB = Job(model="small", iterations=500, batch_size=16, workers=0)
CASE_0 = Case(
    name="loading-0",
    title="Data loading, 0 workers",
    about="Batches of 16 images of 32 x 32 pixels, shuffled and randomly flipped, with torch's default "
    "collate function.",
    kind="train",
    figures=(STEP,),
    job=_JOB,
)
CASE_2 = dataclasses.replace(
    CASE_0,
    name="loading-2",
    title="Data loading, 2 workers",
    about="The same as `loading-0`, with two workers.",
    job=dataclasses.replace(_JOB, workers=2),
    seconds=(("", 4.0),),
)
