"""The benchmark cases and their goals, in the order of the page."""

import dataclasses
from typing import Any

from benchmarks.engines.case import STEP, Case, Figure, Goal
from benchmarks.engines.job import Job

_TINY = Case(
    name="tiny",
    title="Tiny model",
    about=(
        "Two linear layers (32-64-2), batch size 8, AdamW, linear decay of the learning rate, all "
        "default hooks, a log line every 50 iterations."
    ),
    kind="train",
    figures=(STEP,),
    job=Job(iterations=3000),
    goals=(
        Goal(
            "at most 15 us slower than the bare loop",
            "us",
            15.0,
            "difference",
            "bare",
            unit="us",
        ),
        Goal("faster than ignite", "us", 1.0, "ratio", "ignite"),
    ),
    seconds=(("", 3.0), ("lightning", 5.0), ("transformers", 5.0)),
)

_MANY = Job(
    model="many",
    iterations=300,
    optimizer={"lr": 1e-3, "weight_decay": 0.05},
    norm_decay=False,
    schedule="poly",
)
_NORMS = Case(
    name="norms",
    title="161 tensors, norm decay 0",
    about=(
        "161 parameter tensors, as many as in a ResNet-50, with 16 channels. Batch size 4, AdamW, "
        "polynomial decay of the learning rate."
    ),
    kind="train",
    figures=(STEP,),
    job=_MANY,
    goals=(
        Goal("at most 1.03 x the bare loop", "us", 1.03, "ratio", "bare"),
        Goal(
            "faster than every other engine, or equal to the fastest within the measured spread", "us", 1.0, "fastest"
        ),
    ),
)

_WITH_FUSED = dataclasses.replace(_MANY, optimizer={**_MANY.optimizer, "fused": True})


def _fused(name: str, title: str, about: str, **changes: Any) -> Case:
    """Builds a case that trains 161 tensors with the fused optimizer, and with changes to the job."""
    return dataclasses.replace(
        _NORMS, name=name, title=title, about=about, job=dataclasses.replace(_WITH_FUSED, **changes)
    )


_FUSED = _fused(
    "fused",
    "161 tensors, fused AdamW",
    "The same as `norms`, with `fused=True`. The following cases also use the fused optimizer.",
)

_EMA = _fused(
    "ema",
    "EMA",
    "An exponential moving average of all weights, updated after each iteration. Buffers are copied.",
    ema=True,
)

_CLIPPING = _fused(
    "clipping",
    "Clipping",
    "Gradients are clipped to a norm of 1. footplate, mmengine and the bare loop log the norm.",
    clip=1.0,
)

_ACCUMULATION = _fused("accumulation", "Accumulation", "One optimizer step for every four iterations.", accumulate=4)

_AMP = _fused("amp", "AMP bf16", "Mixed precision with autocast to bfloat16.", amp=True)

_SMALL_IMAGES = Job(model="small", iterations=500, batch_size=16, workers=0)
_LOADING_0 = Case(
    name="loading-0",
    title="Data loading, 0 workers",
    about="Batches of 16 images of 32 x 32 pixels, shuffled and randomly flipped, with torch's default "
    "collate function.",
    kind="train",
    figures=(STEP,),
    job=_SMALL_IMAGES,
)
_LOADING_2 = dataclasses.replace(
    _LOADING_0,
    name="loading-2",
    title="Data loading, 2 workers",
    about="The same as `loading-0`, with two workers.",
    job=dataclasses.replace(_SMALL_IMAGES, workers=2),
    seconds=(("", 4.0),),
)

_VALIDATION = Case(
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
_VALIDATION_RESNET = dataclasses.replace(
    _VALIDATION,
    name="validation-resnet",
    title="Validation loop, ResNet-50",
    about="The same as `validation`, with a ResNet-50 on 52 batches of four images of 128 x 128 pixels.",
    job=Job(model="resnet", iterations=52, batch_size=4),
    seconds=(("", 50.0),),
)

_WITH_SCENES = ("bare", "footplate", "mmengine", "lightning", "transformers")
_AHEAD = {
    "mmengine": "faster than mmengine",
    "lightning": "faster than Lightning",
    "transformers": "faster than Trainer",
}
_SEGMENTATION = Case(
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
    engines=_WITH_SCENES,
    job=Job(iterations=1600, save_every=0),
    quick=4,
    rounds=3,
    alone=True,
    threads=0,
    goals=tuple(Goal(text, "seconds", 1.0, "ratio", engine) for engine, text in _AHEAD.items()),
    seconds=(("", 75.0),),
)

_WAITING = Case(
    name="waiting",
    title="Waiting for data",
    about=(
        "This is the share of time that `fashion-seg` spends waiting for batches from one worker, "
        "measured after iteration 20."
    ),
    kind="segment",
    figures=(Figure("waited_percent", "waiting", "%", 2),),
    engines=_WITH_SCENES,
    job=Job(iterations=120, workers=1),
    quick=4,
    rounds=3,
    alone=True,
    threads=0,
    goals=(
        Goal(
            "less than 2% of the time with one worker",
            "waited_percent",
            2.0,
            "value",
            unit="%",
        ),
    ),
    seconds=(("", 15.0),),
)

_LONG_RUN = Case(
    name="long",
    title="Long runs",
    about=(
        "Every engine runs the case `tiny` for 100,000 iterations; the bare loop and footplate run it "
        "for 1,000,000. Times are medians over 10,000 iterations. Memory growth is the increase in the "
        "anonymous resident memory of the process, which excludes mapped files, between iterations 1,000"
        " and 100,000."
    ),
    kind="long",
    figures=(
        Figure("us_start", "at the start", "us"),
        Figure("us_100k", "at 100,000", "us"),
        Figure("us_1m", "at 1,000,000", "us"),
        Figure("growth_mb", "memory growth", "MB", 2),
    ),
    job=Job(iterations=100_000),
    longer=(("bare", 1_000_000), ("footplate", 1_000_000)),
    quick=1_500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            "iteration time after 1,000,000 iterations within 10% of that at the start",
            "us_1m",
            1.10,
            "ratio",
            "footplate",
            "us_start",
        ),
        Goal(
            "memory growth from iteration 1,000 to 100,000: at most 1 MB more than the bare loop",
            "growth_mb",
            1.0,
            "difference",
            "bare",
            unit="MB",
        ),
    ),
    seconds=(
        ("", 30.0),
        ("bare", 210.0),
        ("footplate", 230.0),
        ("mmengine", 55.0),
        ("onedl", 55.0),
        ("lightning", 80.0),
        ("transformers", 70.0),
    ),
)

_IMPORTS = Case(
    name="imports",
    title="Imports and --help",
    about=(
        "Each duration is measured in a new process: the time that `import ENGINE` adds to an empty "
        "process, the time to import everything that training needs (including torch), and the time "
        "of `footplate --help`. The values are medians of three measurements."
    ),
    kind="imports",
    figures=(
        Figure("package_ms", "import, added", "ms"),
        Figure("names_ms", "all imports for training", "ms"),
        Figure("help_ms", "--help", "ms"),
        Figure("torch_loaded", "torch loaded by the import", ""),
    ),
    rounds=1,
    goals=(
        Goal("`--help` in at most 0.25 s", "help_ms", 250.0, "value", unit="ms"),
        Goal(
            "`import footplate` adds at most 30 ms",
            "package_ms",
            30.0,
            "value",
            unit="ms",
        ),
        Goal(
            "`import footplate` does not import torch",
            "torch_loaded",
            0.0,
            "value",
        ),
    ),
    seconds=(("", 8.0), ("lightning", 25.0), ("transformers", 25.0)),
)

_FIRST_ITERATION = Case(
    name="first-iteration",
    title="Config to first iteration",
    about=(
        "This is the time from calling `Config.fromfile` on a config of five small files to the first "
        "`before_train_iter`, excluding imports. footplate is measured with and without its preflight check. "
        "The first run of a process also imports modules that are loaded on first use."
    ),
    kind="first_iteration",
    figures=(
        Figure("ms", "without preflight", "ms"),
        Figure("preflight_ms", "with preflight", "ms"),
        Figure("cold_ms", "first run of the process", "ms"),
    ),
    engines=("footplate", "mmengine", "onedl"),
    alone=True,
    goals=(Goal("at most half the time of mmengine", "ms", 0.5, "ratio", "mmengine"),),
    seconds=(("", 5.0),),
)

_CONFIG_LOAD = Case(
    name="config-load",
    title="Reading a config",
    about=(
        "This is the time that `Config.fromfile` takes for a chain of three files that inherit from "
        "each other, with about 4,000 values in total. The times are medians of ten measurements."
    ),
    kind="config_load",
    figures=(Figure("ms", "reading", "ms", 1),),
    engines=("footplate", "mmengine", "onedl"),
    seconds=(("", 2.0),),
)

_SAVING = Case(
    name="saving",
    title="Saving a checkpoint",
    about=(
        "This is how long a checkpoint save delays training. The checkpoint takes up 49 MB and "
        "contains 4 million parameters and the state of AdamW. A checkpoint is saved every 10 iterations in a "
        "run of 310 iterations. Delays close to zero, whether positive or negative, are within the noise."
    ),
    kind="saving",
    figures=(Figure("ms", "delay per checkpoint", "ms"),),
    job=Job(model="heavy", iterations=310, save_every=10),
    quick=104,
    rounds=3,
    seconds=(("", 9.0),),
)

_RESUME = Case(
    name="resume",
    title="Resuming",
    about=(
        "This is the time from the construction of the Runner to the first iteration of a resumed run. It is "
        "measured for checkpoints of `tiny` after iteration 100 and after iteration 100,000. The dataset has "
        "100,000 samples and is shuffled. The batch size is 1. The values are medians of five measurements."
    ),
    kind="resume",
    figures=(
        Figure("ms_100", "after 100", "ms"),
        Figure("ms_100k", "after 100,000", "ms"),
    ),
    engines=("footplate", "mmengine"),
    job=Job(iterations=100_000),
    quick=500,
    rounds=1,
    alone=True,
    goals=(
        Goal(
            "resuming after iteration 100,000 takes within 10% of the time that it takes after iteration 100",
            "ms_100k",
            1.10,
            "ratio",
            "footplate",
            "ms_100",
        ),
    ),
    seconds=(("footplate", 45.0), ("mmengine", 90.0), ("", 60.0)),
)


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        _TINY,
        _NORMS,
        _FUSED,
        _EMA,
        _CLIPPING,
        _ACCUMULATION,
        _AMP,
        _LOADING_0,
        _LOADING_2,
        _VALIDATION,
        _VALIDATION_RESNET,
        _SEGMENTATION,
        _WAITING,
        _LONG_RUN,
        _IMPORTS,
        _FIRST_ITERATION,
        _CONFIG_LOAD,
        _SAVING,
        _RESUME,
    )
}
