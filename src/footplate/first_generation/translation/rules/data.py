"""Translates datasets, data loaders and `workflow`."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.errors import ConfigError
from footplate.first_generation.translation.draft import Draft, Rule, with_origins
from footplate.first_generation.translation.key_map import LOADER_KEYS, SPLITS
from footplate.first_generation.translation.rules.evaluation import METRIC
from footplate.messages import nearest

DATASET = "LegacyDataset"
COLLATE = "legacy_collate"
WORKFLOW = "WorkflowHook"
_LOADERS = tuple(f"{split}_dataloader" for split in SPLITS)
_SIZES = ("samples_per_gpu", "imgs_per_gpu", "videos_per_gpu")
_TRAIN_ONLY_KEYS = ("drop_last", "class_aware_sampler")
_SAMPLER_KEYS = ("shuffle", "class_aware_sampler", "round_up", "seed")
# Settings that the launcher decides now.
_LAUNCHER_KEYS = ("dist", "num_gpus")
_KNOWN = (*SPLITS, *_LOADERS, *LOADER_KEYS, *_SAMPLER_KEYS, *_LAUNCHER_KEYS)
_LEFTOVER_SECTION = "data_settings"


def _data(draft: Draft) -> None:
    """Translates `data` into one data loader per split."""
    data = draft.take("data")
    if data is None:
        return
    if not isinstance(data, ConfigDict):
        raise ConfigError("'data' must be a dict", key="data", found=data, origin=draft.origin("data"))
    common = {key: value for key, value in data.items() if key in LOADER_KEYS or key in _SAMPLER_KEYS}
    if draft.remaining.get("persistent_workers") is not None:
        check_flag("persistent_workers", draft.remaining["persistent_workers"])
        common["persistent_workers"] = draft.take("persistent_workers")
        draft.became("persistent_workers", "persistent_workers of each loader")
    complete = [split for split in SPLITS if data.get(split) and _split(draft, data, split, common)]
    _keep_other_settings(draft, data, complete)
    if not data:
        draft.became("data", "removed: it is empty")


def _split(draft: Draft, data: ConfigDict, split: str, common: Mapping[str, Any]) -> bool:
    """Writes the data loader of a split; returns whether all settings of the split were translated."""
    has_evaluation = draft.original.get("evaluation") is not None
    if split == "val" and not has_evaluation:
        if any(mode == "val" for mode, _ in draft.original.get("workflow") or ()):
            unused = {key for key in data.get("val_dataloader") or {} if key not in LOADER_KEYS} | {"drop_last"}
            _keep_loader_settings(draft, data, split, unused)
            return True
        draft.write("val_dataset", data[split], "data")
        draft.ask("data.val", "there is no evaluation section; kept as val_dataset, which nothing reads")
        return False
    name = f"{split}_dataloader"
    draft.write(name, _loader(draft, data, split, common), "data")
    if split == "test" and not has_evaluation:
        draft.write("test_cfg", {"type": "TestLoop"}, "data")
        draft.write("test_evaluator", {"type": METRIC}, "data")
    draft.became(f"data.{split}", f"{name}.dataset, in the adapter {DATASET}")
    return True


def _loader(draft: Draft, data: ConfigDict, split: str, common: Mapping[str, Any]) -> ConfigDict:
    own = data.get(f"{split}_dataloader") or {}
    given = {**common, **own}
    if split != "train":
        # Batch size 1 by default, because images differ in size.
        kept = {key: value for key, value in common.items() if key not in (*_SIZES, *_TRAIN_ONLY_KEYS)}
        size = {} if set(_SIZES) & set(own) else {"samples_per_gpu": _dataset_batch_size(data[split]) or 1}
        given = {**kept, **size, "shuffle": False, **own}
    elif not set(_SIZES) & given.keys():
        given["samples_per_gpu"] = given.get("samples_per_gpu", 2)
        draft.ask("data.samples_per_gpu", "is missing; 2 is used, but the original code base may use another default")
    _keep_loader_settings(
        draft, data, split, {key for key in own if key not in LOADER_KEYS and key not in _SAMPLER_KEYS}
    )
    made = {new: given[old] for old, new in LOADER_KEYS.items() if given.get(old) is not None}
    made.setdefault("sampler", _sampler(draft, given))
    made.setdefault("collate_fn", {"type": COLLATE})
    made["dataset"] = _dataset(data[split], split)
    return with_origins(made, data, {new: old for old, new in LOADER_KEYS.items() if old in data} | {"dataset": split})


def _dataset_batch_size(cfg: Any) -> Any:
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
    """Wraps one or several datasets in the adapter and removes batch sizes, which belong to the loader."""
    if isinstance(cfg, (list, tuple)):
        made: Any = {"type": "ConcatDataset", "datasets": [_without_batch_size(each) for each in cfg]}
    else:
        made = _without_batch_size(cfg)
    adapted = {"type": DATASET, "dataset": made}
    return ConfigDict({**adapted, "test_mode": True} if split != "train" else adapted)


def _without_batch_size(cfg: Any) -> Any:
    if not isinstance(cfg, Mapping) or "samples_per_gpu" not in cfg:
        return cfg
    return with_origins({key: value for key, value in cfg.items() if key != "samples_per_gpu"}, cfg)


def _keep_other_settings(draft: Draft, data: ConfigDict, complete: list[str]) -> None:
    """Keeps settings that belong to no loader, and adds a note, so that nothing is lost."""
    for key, value in data.items():
        split = key.removesuffix("_dataloader")
        if key not in _KNOWN and isinstance(value, Mapping) and "type" in value:
            draft.write(f"{key}_dataset", value, "data")
            near = _near(key)  # most often a user-defined name, so this is no `near` of the note
            hint = f"; did you mean '{near}'?" if near else ""
            draft.ask(f"data.{key}", f"kept as {key}_dataset; check that your code reads it{hint}")
        elif key not in _KNOWN or key == "seed" or (key in _LOADERS and split not in complete):
            _keep(draft, key, value)
        elif key in _LAUNCHER_KEYS:
            draft.became(f"data.{key}", "removed: torchrun decides this")
        elif not complete and key not in SPLITS:
            _keep(draft, key, value)
        elif key in (*_SIZES, *_TRAIN_ONLY_KEYS) and "train" not in complete:
            draft.became(f"data.{key}", "removed: it only affects training, and there is no data.train")


def _keep(draft: Draft, key: str, value: Any) -> None:
    draft.write(f"{_LEFTOVER_SECTION}.{key}", value, "data")
    near = None if key in _KNOWN else _near(key)
    draft.ask(f"data.{key}", f"has no counterpart; kept as {_LEFTOVER_SECTION}.{key}, which nothing reads", near=near)


def _keep_loader_settings(draft: Draft, data: ConfigDict, split: str, keys: set[str]) -> None:
    """Keeps the settings `keys` of a split's loader, which have no counterpart."""
    for key, value in (data.get(f"{split}_dataloader") or {}).items():
        if key in keys:
            _keep(draft, f"{split}_dataloader.{key}", value)


def _near(key: str) -> str | None:
    name = key.rpartition(".")[2]
    return nearest(name, _KNOWN) if name not in _KNOWN else None


def _workflow(draft: Draft) -> None:
    """Translates `workflow`, which computes validation losses between training phases."""
    flow = draft.take("workflow")
    phases = _phases(draft, flow or [("train", 1)])
    if all(mode == "train" for mode, _ in phases):
        draft.became("workflow", "removed: training is the default")
        return
    data = draft.original.get("data") or {}
    if not data.get("val"):
        raise ConfigError(
            "workflow has a validation phase, but there is no data.val", key="workflow", origin=draft.origin("workflow")
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
        dataset=_dataset(with_origins(validation, data["val"]), "train"),
    )
    hook = {"type": WORKFLOW, "workflow": phases, "dataloader": loader, "priority": "HIGHEST"}
    draft.append("custom_hooks", hook, "workflow")
    unit = "epochs" if draft.by_epoch else "iterations"
    draft.became("workflow", f"the hook {WORKFLOW}: losses on data.val, phases in {unit}")


def _phases(draft: Draft, flow: Any) -> list[tuple[str, int]]:
    phases: list[tuple[str, int]] = []
    for index, phase in enumerate(flow):
        is_pair = isinstance(phase, (list, tuple)) and len(phase) == 2 and phase[0] in ("train", "val")
        if not is_pair or isinstance(phase[1], bool) or not isinstance(phase[1], int) or phase[1] < 1:
            raise ConfigError(
                "a workflow phase must be ('train', n) or ('val', n)",
                key=f"workflow[{index}]",
                found=phase,
                origin=draft.origin("workflow"),
            )
        phases.append((phase[0], phase[1]))
    if all(mode != "train" for mode, _ in phases):
        raise ConfigError("workflow has no training phase", key="workflow", found=flow, origin=draft.origin("workflow"))
    return phases


RULES = (
    Rule(
        "workflow",
        "A validation phase becomes a hook that computes losses on validation data; a training phase needs no setting.",
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
        "Each split becomes a data loader; the dataset is wrapped in an adapter and otherwise unchanged.",
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
