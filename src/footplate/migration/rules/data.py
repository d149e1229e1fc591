"""Translates data sets, loaders and `workflow`."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.errors import ConfigError
from footplate.messages import nearest
from footplate.migration.draft import Draft, section
from footplate.migration.key_map import LOADER_KEYS, SPLITS
from footplate.migration.rules.evaluating import METRIC
from footplate.migration.rules.record import Rule

DATASET = "LegacyDataset"
COLLATE = "legacy_collate"
WORKFLOW = "WorkflowHook"
_LOADERS = tuple(f"{split}_dataloader" for split in SPLITS)
_SIZES = ("samples_per_gpu", "imgs_per_gpu", "videos_per_gpu")
_OF_TRAINING = ("drop_last", "class_aware_sampler")
# What says how samples are drawn, and what the launcher decides now.
_SAMPLING = ("shuffle", "class_aware_sampler", "round_up", "seed")
_OF_THE_LAUNCHER = ("dist", "num_gpus")
_KNOWN = (*SPLITS, *_LOADERS, *LOADER_KEYS, *_SAMPLING, *_OF_THE_LAUNCHER)
_KEPT = "data_settings"


def _data(draft: Draft) -> None:
    """Translates `data` into a loader per split."""
    data = draft.take("data")
    if data is None:
        return
    if not isinstance(data, ConfigDict):
        raise ConfigError("'data' must be a dict", key="data", found=data, origin=draft.origin("data"))
    common = {key: value for key, value in data.items() if key in LOADER_KEYS or key in _SAMPLING}
    if draft.rest.get("persistent_workers") is not None:
        check_flag("persistent_workers", draft.rest["persistent_workers"])
        common["persistent_workers"] = draft.take("persistent_workers")
        draft.became("persistent_workers", "persistent_workers of each loader")
    made = [split for split in SPLITS if data.get(split) and _split(draft, data, split, common)]
    _others(draft, data, made)
    if not data:
        draft.became("data", "nothing: it is empty")


def _split(draft: Draft, data: ConfigDict, split: str, common: Mapping[str, Any]) -> bool:
    """Writes the loader of a split; returns whether all its settings found a place."""
    evaluates = draft.given.get("evaluation") is not None
    if split == "val" and not evaluates:
        if _validates_losses(draft):
            of_no_use = {key for key in data.get("val_dataloader") or {} if key not in LOADER_KEYS} | {"drop_last"}
            _keep_of(draft, data, split, of_no_use)
            return True
        draft.write("val_dataset", data[split], "data")
        draft.ask("data.val", "evaluation does not say by which metric: kept as val_dataset, which nothing reads")
        return False
    name = f"{split}_dataloader"
    draft.write(name, _loader(draft, data, split, common), "data")
    if split == "test" and not evaluates:
        draft.write("test_cfg", {"type": "TestLoop"}, "data")
        draft.write("test_evaluator", {"type": METRIC}, "data")
    draft.became(f"data.{split}", f"{name}.dataset, adapted by {DATASET}")
    return True


def _validates_losses(draft: Draft) -> bool:
    return any(mode == "val" for mode, _ in draft.given.get("workflow") or ())


def _loader(draft: Draft, data: ConfigDict, split: str, common: Mapping[str, Any]) -> ConfigDict:
    own = data.get(f"{split}_dataloader") or {}
    given = {**common, **own}
    if split != "train":
        # One sample at a time, since pictures differ in size, unless the split says otherwise.
        kept = {key: value for key, value in common.items() if key not in (*_SIZES, *_OF_TRAINING)}
        size = {} if set(_SIZES) & set(own) else {"samples_per_gpu": _own_batch_size(data[split]) or 1}
        given = {**kept, **size, "shuffle": False, **own}
    elif not set(_SIZES) & given.keys():
        given["samples_per_gpu"] = given.get("samples_per_gpu", 2)
        draft.ask("data.samples_per_gpu", "is missing: 2, which only one of the code bases took")
    _keep_of(draft, data, split, {key for key in own if key not in LOADER_KEYS and key not in _SAMPLING})
    made = {new: given[old] for old, new in LOADER_KEYS.items() if given.get(old) is not None}
    made.setdefault("sampler", _sampler(draft, given))
    made.setdefault("collate_fn", {"type": COLLATE})
    made["dataset"] = _dataset(data[split], split)
    return section(made, data, {new: old for old, new in LOADER_KEYS.items() if old in data} | {"dataset": split})


def _own_batch_size(cfg: Any) -> Any:
    parts = cfg if isinstance(cfg, (list, tuple)) else [cfg]
    sizes = [each.get("samples_per_gpu", 1) for each in parts if isinstance(each, Mapping)]
    return max(sizes, default=1)


def _sampler(draft: Draft, given: Mapping[str, Any]) -> dict[str, Any]:
    shuffle = check_flag("shuffle", given.get("shuffle", True), key="data.shuffle")
    aware = given.get("class_aware_sampler")
    if aware:
        return {"type": "ClassAwareSampler", **aware}
    if not draft.by_epoch and shuffle:
        return {"type": "InfiniteSampler", "shuffle": shuffle}
    rounded = {"round_up": given["round_up"]} if "round_up" in given else {}
    return {"type": "DefaultSampler", "shuffle": shuffle, **rounded}


def _dataset(cfg: Any, split: str) -> ConfigDict:
    """Wraps one or several data sets in the adapter, without batch sizes, which belong to the loader."""
    if isinstance(cfg, (list, tuple)):
        made: Any = {"type": "ConcatDataset", "datasets": [_without_batch_size(each) for each in cfg]}
    else:
        made = _without_batch_size(cfg)
    adapted = {"type": DATASET, "dataset": made}
    return ConfigDict({**adapted, "test_mode": True} if split != "train" else adapted)


def _without_batch_size(cfg: Any) -> Any:
    if not isinstance(cfg, Mapping) or "samples_per_gpu" not in cfg:
        return cfg
    return section({key: value for key, value in cfg.items() if key != "samples_per_gpu"}, cfg)


def _others(draft: Draft, data: ConfigDict, made: list[str]) -> None:
    """Keeps settings that belong to no loader, with a note, so that nothing is lost."""
    for key, value in data.items():
        split = key.removesuffix("_dataloader")
        if key not in _KNOWN and isinstance(value, Mapping) and "type" in value:
            draft.write(f"{key}_dataset", value, "data")
            near = _near(key)  # a name of the user's own, most often: only a hint
            hint = f"; did you mean '{near}'?" if near else ""
            draft.ask(f"data.{key}", f"kept as {key}_dataset, for whoever reads it{hint}")
        elif key not in _KNOWN or key == "seed" or (key in _LOADERS and split not in made):
            _keep(draft, key, value)
        elif key in _OF_THE_LAUNCHER:
            draft.became(f"data.{key}", "nothing: torchrun decides")
        elif not made and key not in SPLITS:
            _keep(draft, key, value)
        elif key in (*_SIZES, *_OF_TRAINING) and "train" not in made:
            draft.became(f"data.{key}", "nothing: it speaks of training, and there is no data.train")


def _keep(draft: Draft, key: str, value: Any) -> None:
    draft.write(f"{_KEPT}.{key}", value, "data")
    near = None if key in _KNOWN else _near(key)
    draft.ask(f"data.{key}", f"has no place of its own: kept as {_KEPT}.{key}, which nothing reads", near=near)


def _keep_of(draft: Draft, data: ConfigDict, split: str, keys: set[str]) -> None:
    """Keeps settings of a split's loader that have no counterpart."""
    for key, value in (data.get(f"{split}_dataloader") or {}).items():
        if key in keys:
            _keep(draft, f"{split}_dataloader.{key}", value)


def _near(key: str) -> str | None:
    word = key.rpartition(".")[2]
    return nearest(word, _KNOWN) if word not in _KNOWN else None


def _workflow(draft: Draft) -> None:
    """Translates `workflow`: after how much training losses are computed on validation data."""
    flow = draft.take("workflow")
    phases = _phases(draft, flow or [("train", 1)])
    if all(mode == "train" for mode, _ in phases):
        draft.became("workflow", "nothing: training is what a run does")
        return
    data = draft.given.get("data") or {}
    if not data.get("val"):
        raise ConfigError(
            "workflow validates, and there is no data.val", key="workflow", origin=draft.origin("workflow")
        )
    validation = {**data["val"]}
    if isinstance(data.get("train"), Mapping) and "pipeline" in data["train"]:
        validation["pipeline"] = data["train"]["pipeline"]
    common = {key: value for key, value in data.items() if key in LOADER_KEYS}
    settings = {**common, "shuffle": False, **(data.get("val_dataloader") or {})}
    loader = {new: settings[old] for old, new in LOADER_KEYS.items() if settings.get(old) is not None}
    loader.pop("drop_last", None)
    loader.update(
        sampler={"type": "DefaultSampler", "shuffle": False},
        collate_fn={"type": COLLATE},
        dataset=_dataset(section(validation, data["val"]), "train"),
    )
    hook = {"type": WORKFLOW, "workflow": phases, "dataloader": loader, "priority": "HIGHEST"}
    draft.append("custom_hooks", hook, "workflow")
    unit = "epochs" if draft.by_epoch else "iterations"
    draft.became("workflow", f"the hook {WORKFLOW}: losses on data.val, counted in {unit}")


def _phases(draft: Draft, flow: Any) -> list[tuple[str, int]]:
    phases: list[tuple[str, int]] = []
    for place, phase in enumerate(flow):
        right = isinstance(phase, (list, tuple)) and len(phase) == 2 and phase[0] in ("train", "val")
        if not right or isinstance(phase[1], bool) or not isinstance(phase[1], int) or phase[1] < 1:
            raise ConfigError(
                "a phase of workflow is ('train', n) or ('val', n)",
                key=f"workflow[{place}]",
                found=phase,
                origin=draft.origin("workflow"),
            )
        phases.append((phase[0], phase[1]))
    if all(mode != "train" for mode, _ in phases):
        raise ConfigError("workflow does not train", key="workflow", found=flow, origin=draft.origin("workflow"))
    return phases


RULES = (
    Rule(
        "workflow",
        "Looking at losses on validation data is a hook; training alone needs no word.",
        ("workflow",),
        _workflow,
        given="""
runner = dict(type='EpochBasedRunner', max_epochs=12)
data = dict(samples_per_gpu=2, val=dict(type='CocoDataset', ann_file='val.json'))
""",
        before="workflow = [('train', 1), ('val', 1)]",
        after="""
custom_hooks = [
    dict(
        type='WorkflowHook',
        workflow=[('train', 1), ('val', 1)],
        dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='legacy_collate'),
            dataset=dict(type='LegacyDataset', dataset=dict(type='CocoDataset', ann_file='val.json'))),
        priority='HIGHEST'),
]
""",
    ),
    Rule(
        "data",
        "Each split has its loader; a data set stays as it is, within an adapter.",
        ("data", "persistent_workers"),
        _data,
        given="""
runner = dict(type='IterBasedRunner', max_iters=80000)
evaluation = dict(interval=8000, metric='mIoU')
""",
        before="""
data = dict(
    samples_per_gpu=4,
    workers_per_gpu=2,
    train=dict(type='ADE20KDataset', split='train'),
    val=dict(type='ADE20KDataset', split='val'))
""",
        after="""
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='legacy_collate'),
    dataset=dict(type='LegacyDataset', dataset=dict(type='ADE20KDataset', split='train')))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='legacy_collate'),
    dataset=dict(type='LegacyDataset', dataset=dict(type='ADE20KDataset', split='val'), test_mode=True))
""",
    ),
)
