"""Checks that a translation keeps every setting or reports it in a note."""

import itertools
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from footplate.errors import ConfigError
from footplate_openmmlab.first_generation.translation.config_translation import translate_sections

Path = tuple[str, ...]

# `with_unique_values` replaces these types by values that occur only once.
NUMBERS = st.just(int)
TEXTS = st.just(str)
FLAGS = st.booleans()
UNKNOWN_KEYS = st.fixed_dictionaries(
    {}, optional={"word_a": NUMBERS, "word_b": TEXTS, "word_c": st.lists(NUMBERS, min_size=1)}
)


def some(**keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Generates sections with some of the given keys and some unknown keys."""
    return st.tuples(st.fixed_dictionaries({}, optional=keys), UNKNOWN_KEYS).map(lambda both: {**both[0], **both[1]})


def typed(kinds: list[str], **keys: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.sampled_from(kinds), some(**keys)).map(lambda both: {"type": both[0], **both[1]})


OPTIMIZER = typed(
    ["SGD", "AdamW"], lr=NUMBERS, momentum=NUMBERS, constructor=TEXTS, paramwise_cfg=some(norm_decay_mult=NUMBERS)
)
STEP = some(grad_clip=some(max_norm=NUMBERS), cumulative_iters=NUMBERS, coalesce=FLAGS, bucket_size_mb=NUMBERS)
LOGGERS = ["TextLoggerHook", "TensorboardLoggerHook", "WandbLoggerHook", "PaviLoggerHook", "MyLoggerHook"]
LOGGER = typed(LOGGERS, log_dir=TEXTS, init_kwargs=some(project=TEXTS), ignore_last=FLAGS, out_dir=TEXTS)
EVALUATION = some(
    interval=NUMBERS,
    start=NUMBERS,
    metric=TEXTS,
    save_best=TEXTS,
    rule=TEXTS,
    greater_keys=st.lists(TEXTS, min_size=1),
    out_dir=TEXTS,
    gpu_collect=FLAGS,
    tmpdir=TEXTS,
    pre_eval=FLAGS,
)
LOADER = some(
    samples_per_gpu=NUMBERS, workers_per_gpu=NUMBERS, drop_last=FLAGS, prefetch_factor=NUMBERS, timeout=NUMBERS
)
DATASET = typed(["A", "B"], ann_file=TEXTS)
DATA = some(
    samples_per_gpu=NUMBERS,
    workers_per_gpu=NUMBERS,
    seed=NUMBERS,
    num_gpus=NUMBERS,
    train=DATASET,
    val=DATASET,
    test=st.one_of(DATASET, st.lists(DATASET, min_size=1, max_size=2)),
    extract=DATASET,
    train_dataloader=LOADER,
    val_dataloader=LOADER,
    test_dataloader=LOADER,
)
SAVING = some(
    interval=NUMBERS,
    max_keep_ckpts=NUMBERS,
    out_dir=TEXTS,
    filename_tmpl=TEXTS,
    create_symlink=FLAGS,
)
LOGGING = some(interval=NUMBERS, hooks=st.lists(LOGGER, max_size=3))
WARM_UP = {"warmup": st.just("linear"), "warmup_ratio": st.just(0.1)}
SCHEDULE = st.tuples(st.sampled_from([["fixed"], ["step"], ["poly"]]), some(**WARM_UP)).map(
    lambda both: {"policy": both[0][0], "step": [8], **both[1]}
)
RUNNER = st.one_of(
    typed(["EpochBasedRunner", "MyRunner"]).map(lambda runner: {**runner, "max_epochs": 12}),
    typed(["IterBasedRunner"]).map(lambda runner: {**runner, "max_iters": 90_000}),
)
SECTIONS: dict[str, st.SearchStrategy[Any]] = {
    "optimizer": OPTIMIZER,
    "optimizer_config": STEP,
    "fp16": some(loss_scale=NUMBERS),
    "lr_config": SCHEDULE,
    "checkpoint_config": SAVING,
    "log_config": LOGGING,
    "evaluation": EVALUATION,
    "data": DATA,
    "custom_hooks": st.lists(typed(["EMAHook", "MyHook"], momentum=NUMBERS, resume_from=TEXTS), min_size=1, max_size=2),
    "workflow": st.sampled_from([[("train", 1)], [("train", 1), ("val", 1)]]),
    "model": some(backbone=UNKNOWN_KEYS),
    "dist_params": some(backend=TEXTS, port=NUMBERS),
    "seed": NUMBERS,
    "deterministic": FLAGS,
    "device": TEXTS,
    "gpu_ids": st.just([int, int]),
    "resume_from": TEXTS,
    "load_from": TEXTS,
    "auto_resume": FLAGS,
    "cudnn_benchmark": FLAGS,
    "opencv_num_threads": NUMBERS,
    "total_epochs": NUMBERS,
    "persistent_workers": FLAGS,
    "find_unused_parameters": FLAGS,
    "work_dir": TEXTS,
    "my_setting": UNKNOWN_KEYS,
}


def with_unique_values(value: Any, count: Iterator[int]) -> Any:
    if isinstance(value, dict):
        return {key: with_unique_values(item, count) for key, item in value.items()}
    if isinstance(value, list):
        return [with_unique_values(item, count) for item in value]
    return 1_000_000 + next(count) if value is int else f"text{next(count)}." if value is str else value


def config(keys: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    found = st.fixed_dictionaries({"runner": RUNNER, **{key: SECTIONS[key] for key in sorted(keys)}})
    return found.map(lambda cfg: with_unique_values(cfg, itertools.count()))


CONFIGS = st.sets(st.sampled_from(sorted(SECTIONS)), min_size=1, max_size=4).flatmap(config)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from leaves(item, (*path, str(place)))
    else:
        yield path, value


def is_overridden(cfg: dict[str, Any], path: Path) -> bool:
    """Checks whether every split overrides a setting that `data` has for all splits."""
    loaded = ("train", "val", "test") if "evaluation" in cfg else ("train", "test")
    splits = [split for split in loaded if split in cfg.get("data", {})]
    overrides = [path[1] in cfg["data"].get(f"{split}_dataloader", {}) for split in splits]
    has_override = any(overrides) and (all(overrides) or path[1] == "samples_per_gpu")
    return path[0] == "data" and len(path) == 2 and has_override


# Settings that are implied by the type of the translated hook, schedule or loop.
IMPLIED = {"type", "policy", "by_epoch", "warmup", "ignore_last"}


@given(CONFIGS)
@example(
    {
        "runner": {"type": "IterBasedRunner", "max_iters": 90000},
        "data": {"val": {"type": "A"}, "val_dataloader": {"word_a": 1000001, "drop_last": False, "shuffle": True}},
        "workflow": [("train", 1), ("val", 1)],
    }
)
@settings(max_examples=60)
def test_every_value_is_kept_or_noted(cfg: dict[str, Any]) -> None:
    try:
        found = translate_sections(cfg)
    except ConfigError:
        assume(False)
    kept = {str(value) for _, value in leaves(found.sections.to_dict())}
    notes = " ".join(f"{note.key} {note.text}" for note in found.notes)
    for path, value in leaves(cfg):
        key = next(part for part in reversed(path) if not part.isdigit())
        is_unique = len(str(value)) > 4 and any(mark in str(value) for mark in ("text", "1000"))
        if is_unique:
            assert str(value) in kept or str(value) in notes or key in notes or is_overridden(cfg, path), (path, value)
        elif key not in IMPLIED:
            assert key in notes or key in str(found.sections.to_dict()) or path[0] in ("lr_config", "runner"), path
    noted = {note.key.partition(".")[0].partition("[")[0] for note in found.notes}
    assert {key for key, value in cfg.items() if value and found.sections.get(key) != value} <= noted
