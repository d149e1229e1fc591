"""Translates datasets and dataloaders."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate_openmmlab.first_generation.translation.key_map import EQUIVALENT_SAMPLERS, LOADER_KEYS, SPLITS

METRIC = "LegacyMetric"
_LOADERS = tuple(f"{split}_dataloader" for split in SPLITS)
_SIZES = ("samples_per_gpu", "imgs_per_gpu", "videos_per_gpu")
_TRAIN_ONLY_KEYS = ("drop_last", "class_aware_sampler")
_SAMPLER_KEYS = ("shuffle", "class_aware_sampler", "round_up", "seed", "shuffler_sampler", "nonshuffler_sampler")
# Code bases that validate with the training batch size. Others use 1 by default, because image sizes differ.
_BATCHED_VALIDATION = ("mmcls", "mmselfsup")
# Code bases that pad images to a batch with `DefaultFormatBundle`.
_PADDED = ("mmdet", "mmrotate")
# Code bases whose datasets have no groups. In others, no batch mixes landscape and portrait images.
_UNGROUPED = ("mmaction", "mmcls", "mmpose", "mmseg", "mmselfsup")
# Settings that are now determined by the launcher.
_LAUNCHER_KEYS = ("dist", "num_gpus")
_KNOWN = (*SPLITS, *_LOADERS, *LOADER_KEYS, *_SAMPLER_KEYS, *_LAUNCHER_KEYS)


@rule("data", "persistent_workers")
def data(draft: Draft) -> None:
    """Replaces each split with a dataloader whose dataset is wrapped in an adapter.

    Without an `evaluation` section, keeps `data.val` as `val_dataset`, unless the workflow has a validation phase; see
    `workflow`.

    ```python
    data = dict(
        samples_per_gpu=4,
        workers_per_gpu=2,
        train=dict(type='ADE20KDataset', split='train'),
        val=dict(type='ADE20KDataset', split='val'))
    ```

    becomes

    ```python
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
    ```

    in a config with

    ```python
    default_scope = 'mmseg'
    runner = dict(type='IterBasedRunner', max_iters=80000)
    evaluation = dict(interval=8000, metric='mIoU')
    ```
    """
    data = draft.take("data")
    if data is None:
        return
    common = {key: value for key, value in data.items() if key in LOADER_KEYS or key in _SAMPLER_KEYS}
    if draft.remaining.get("persistent_workers") is not None:
        common["persistent_workers"] = check_flag("persistent_workers", draft.take("persistent_workers"))
        draft.became("persistent_workers", "persistent_workers of each loader")
    complete = [split for split in SPLITS if data.get(split) and _translate_split(draft, data, split, common)]
    train_only = _TRAIN_ONLY_KEYS if draft.scope in _BATCHED_VALIDATION else (*_SIZES, *_TRAIN_ONLY_KEYS)
    for key, value in data.items():
        is_loader_left = key in _LOADERS and key.removesuffix("_dataloader") not in complete
        if key not in _KNOWN and isinstance(value, Mapping) and "type" in value:
            draft.write(f"{key}_dataset", value)
            draft.ask(f"data.{key}", f"kept as {key}_dataset; check that your code reads it")
        elif key in _LAUNCHER_KEYS:
            draft.became(f"data.{key}", "removed: the launcher determines this setting")
        elif key not in _KNOWN or key == "seed" or is_loader_left or (not complete and key not in SPLITS):
            _keep(draft, "", {key: value})
        elif key in train_only and "train" not in complete:
            draft.became(f"data.{key}", "removed: it only affects training, and there is no data.train")


def _translate_split(draft: Draft, data: Mapping[str, Any], split: str, common: Mapping[str, Any]) -> bool:
    """Writes the dataloader config for a split. Returns False if the split was not translated."""
    name, has_evaluation = f"{split}_dataloader", draft.original.get("evaluation") is not None
    own = data.get(name) or {}
    if split == "val" and not has_evaluation:
        if any(mode == "val" for mode, _ in draft.original.get("workflow") or ()):
            # The rule for `workflow` uses the other settings.
            _keep(draft, name, {key: own[key] for key in own if key not in LOADER_KEYS or key == "drop_last"})
            return True
        draft.write("val_dataset", data[split])
        draft.ask("data.val", "there is no evaluation section; kept as val_dataset, which is not read")
        return False
    settings, cfg = {**common, **own}, data[split]
    if split == "train":
        if not set(_SIZES) & settings.keys():
            settings["samples_per_gpu"] = 2
            text = "is not set; using 2, but the original code base may have a different default"
            draft.ask("data.samples_per_gpu", text)
        if draft.by_epoch and draft.scope == "mmseg":
            settings.setdefault("drop_last", True)  # as MMSegmentation's scripts do
    else:
        sizes = [each.get("samples_per_gpu", 1) for each in _as_list(data[split]) if isinstance(each, Mapping)]
        size = max(sizes, default=1) or 1
        if draft.scope in _BATCHED_VALIDATION:
            size = next((common[key] for key in _SIZES if key in common), size)
        kept = {key: value for key, value in common.items() if key not in (*_SIZES, *_TRAIN_ONLY_KEYS)}
        settings = {**kept, "samples_per_gpu": size, "shuffle": False, **own}
        if draft.scope in _PADDED and (settings["samples_per_gpu"] or 1) != 1:
            cfg = _padded(cfg)
    _keep(draft, name, {key: own[key] for key in own if key not in LOADER_KEYS and key not in _SAMPLER_KEYS})
    loader = make_loader(draft, settings, cfg, test_mode=split != "train")
    old_names = {new: old for old, new in LOADER_KEYS.items() if old in data}
    draft.write(name, with_origins(loader, data, {**old_names, "dataset": split}))
    if split == "test" and not has_evaluation:
        draft.write("test_cfg", {"type": "TestLoop"})
        draft.write("test_evaluator", {"type": METRIC})
    return True


def _padded(cfg: Any) -> Any:
    """Returns a config in which `DefaultFormatBundle` replaces all `ImageToTensor`, whose images cannot be padded.

    MMDetection's scripts do the same for batches of several images.
    """
    if isinstance(cfg, (list, tuple)):
        return [_padded(entry) for entry in cfg]
    if not isinstance(cfg, Mapping):
        return cfg
    if cfg.get("type") == "ImageToTensor":
        return with_origins({"type": "DefaultFormatBundle"}, cfg)
    changes = {key: _padded(cfg[key]) for key in ("dataset", "datasets", "pipeline", "transforms") if key in cfg}
    return with_origins({**cfg, **changes}, cfg)


def make_loader(draft: Draft, settings: Mapping[str, Any], cfg: Any, *, test_mode: bool) -> dict[str, Any]:
    """Returns a dataloader config that contains a sampler and an adapter around the dataset.

    Args:
        draft: The draft of the whole config.
        settings: The dataloader settings, under their first-generation names.
        cfg: The config of the dataset, or a list of configs to concatenate.
        test_mode: Whether to build the dataset with `test_mode=True`.
    """
    shuffle = check_flag("shuffle", settings.get("shuffle", True), key="data.shuffle")
    if settings.get("class_aware_sampler"):
        sampler = {"type": "ClassAwareSampler", **settings["class_aware_sampler"]}
    elif not draft.by_epoch and shuffle:
        sampler = {"type": "InfiniteSampler", "shuffle": shuffle}
    else:
        rounded = {"round_up": settings["round_up"]} if "round_up" in settings else {}
        sampler = {"type": "DefaultSampler", "shuffle": shuffle, **rounded}
    adapter: dict[str, Any] = {"type": "LegacyDataset"}
    if isinstance(cfg, Mapping) and cfg.get("type") != "ConcatDataset" and "separate_eval" in cfg:
        adapter["separate_eval"] = cfg["separate_eval"]  # which the classes of datasets do not accept
    moved = {"samples_per_gpu", *adapter} - {"type"}  # `samples_per_gpu` is a setting of the dataloader
    made = [
        with_origins({key: value for key, value in each.items() if key not in moved}, each)
        if isinstance(each, Mapping) and moved & each.keys()
        else each
        for each in _as_list(cfg)
    ]
    adapter["dataset"] = {"type": "ConcatDataset", "datasets": made} if isinstance(cfg, (list, tuple)) else made[0]
    if test_mode:
        adapter["test_mode"] = True
    loader = {new: settings[old] for old, new in LOADER_KEYS.items() if settings.get(old) is not None}
    loader.setdefault("sampler", sampler)
    loader.setdefault("collate_fn", {"type": "legacy_collate"})
    # Code that builds on MMDetection3D selects its own samplers with these keys.
    own = settings.get("shuffler_sampler" if shuffle else "nonshuffler_sampler")
    has_groups = shuffle and draft.scope not in _UNGROUPED
    if own and (test_mode or own.get("type") not in EQUIVALENT_SAMPLERS):
        dropped = {"drop_last": loader.pop("drop_last")} if "drop_last" in loader else {}
        evaluates = {"evaluates": True} if test_mode else {}
        loader.setdefault("batch_sampler", {"type": "LegacyBatchSampler", "own": own, **evaluates, **dropped})
    elif has_groups and loader["sampler"] is sampler and not settings.get("class_aware_sampler"):
        dropped = {"drop_last": loader.pop("drop_last")} if "drop_last" in loader else {}
        loader.setdefault("batch_sampler", {"type": "LegacyBatchSampler", **dropped})
    return {**loader, "dataset": adapter}


def _as_list(cfg: Any) -> list[Any]:
    return list(cfg) if isinstance(cfg, (list, tuple)) else [cfg]


def _keep(draft: Draft, loader: str, settings: Mapping[str, Any]) -> None:
    """Moves settings in `data` that are not translated to `data_settings`, and adds a note for each."""
    for name, value in settings.items():
        key = f"{loader}.{name}" if loader else name
        draft.write(f"data_settings.{key}", value)
        known = () if name in _KNOWN else _KNOWN
        draft.ask(f"data.{key}", f"was not translated; kept as data_settings.{key}, which is not read", known=known)
