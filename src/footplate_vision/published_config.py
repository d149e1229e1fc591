"""Writes the part of a config that adapts a published config to other data: the option `footplate init --from`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from footplate.config.sources import find_config
from footplate.data.annotations import load_data_file

_LINE = 66  # characters of a value that stays on one line
_SECTIONS = re.findall(
    r"\w+",
    "data_preprocessor model train_dataloader val_dataloader test_dataloader val_evaluator test_evaluator train_cfg "
    "optim_wrapper param_scheduler custom_hooks",
)
_Rule = Callable[..., str | None]  # returns the code of a changed value, by key, value, section and place
_EVALUATORS = {
    "classification": ("type='footplate.Accuracy', topk=(1,)", "accuracy/top1"),
    "segmentation": ("type='footplate.IoUMetric', classwise=True", "mIoU"),
    "detection": ("type='footplate.CocoMetric', classwise=True", "coco/bbox_mAP"),
}


def find_weights(name: str) -> str | None:
    """Returns the address of the weights of a published config, or None if no metafile next to it has one."""
    config = Path(find_config(name))
    for file in sorted(config.parent.glob("metafile.y*ml")):
        content = load_data_file(str(file))
        for model in content["Models"] if isinstance(content, dict) else content:
            if str(model.get("Config")).endswith(f"/{config.name}") and model.get("Weights"):
                return str(model["Weights"])
    return None


def published_batch_size(cfg: Any, name: str) -> int:
    """Returns the number of images per step, on all devices, that the learning rate of a published config suits."""
    if match := re.search(r"_(\d+)xb(\d+)", name):
        return int(match[1]) * int(match[2])
    return int(cfg.get("auto_scale_lr", {}).get("base_batch_size") or cfg.train_dataloader.batch_size)


def predicts_masks(cfg: Any) -> bool:
    """Checks whether the model of a published config predicts instances with masks."""
    return "'segm'" in repr(cfg.val_evaluator)


def write_overrides(task: str, cfg: Any, unit: str, *, drops_weights: bool, from_scratch: bool) -> str:
    """Returns the code that follows the values at the top of a config that inherits from a published one.

    Args:
        task: "classification", "segmentation" or "detection".
        cfg: The published config.
        unit: What the length of the run is counted in: "epochs" or "iterations".
        drops_weights: Whether the weights of the backbone are not loaded.
        from_scratch: Whether to also train what the published config freezes.
    """
    published, lr = cfg.train_cfg.get("max_epochs") or cfg.train_cfg.max_iters, cfg.optim_wrapper.optimizer.lr
    evaluator, best = _EVALUATORS[task]
    metric = ", metric=['bbox', 'segm']" if predicts_masks(cfg) else ""
    constants = {
        "max_epochs": unit,
        "max_iters": unit,
        "val_interval": "interval",
        "dynamic_intervals": "None",
        "lr": "lr",
        "num_workers": "4",
        "reduce_zero_label": "False",
        "test_dataloader": "val_dataloader",
        "val_evaluator": f"dict(_delete_=True, {evaluator}{metric})",
        "test_evaluator": "val_evaluator",
        **({"pretrained": "None"} if drops_weights else {}),
        **({"frozen_stages": "-1", "norm_eval": "False"} if from_scratch else {}),
    }

    def share(value: int) -> str:
        return unit if value == published else f"{unit} * {value} // {published}"

    def code_of(key: str, value: Any, section: dict[str, Any], where: str) -> str | None:
        if not value:
            return None
        if key in constants:
            return constants[key]
        if key == "batch_size" and where == "_base_.train_dataloader":
            return key
        if key == "dataset" and key not in value:  # not a wrapper
            data, place = "train_data" if ".train_" in where else "val_data", f"{where}.dataset"
            kept = [f"{name}={place}.{name}" for name in ("filter_cfg", "test_mode") if name in value]
            pipeline = _changes(value["pipeline"], f"{place}.pipeline", code_of) or f"{place}.pipeline"
            items = ["_delete_=True", f"**{data}", "metainfo=dict(classes=classes)", *kept, f"pipeline={pipeline}"]
            return _joined("dict(", items, place) + ")"
        if key in ("num_classes", "num_things_classes") and value != 1:  # 1: proposals
            return "len(classes)"
        if key == "class_weight" and isinstance(value, (list, tuple)):
            # The last weight of MaskFormer is that of no object. Other weights fit the published classes alone.
            has_no_object = len({*value[:-1]}) == 1 and value[-1] != value[0]
            return f"[{value[0]}] * len(classes) + [{value[-1]}]" if has_no_object else "None"
        if key == "init_cfg" and drops_weights and "'Pretrained'" in repr(value):
            return "None"
        if key == "eta_min":
            return f"lr * {value / lr:.4g}"
        if key == "milestones":
            return f"[{', '.join(map(share, value))}]"
        if key not in ("begin", "end", "T_max", "switch_epoch", "num_last_epochs"):
            return None
        if unit == "epochs" and not section.get("by_epoch", True):
            return str(min(value, 100))  # the end of a warm-up
        return f"min({value}, {unit} // 10)" if unit == "iterations" and 10 * value < published else share(value)

    parts = _parts({name: cfg.get(name) for name in _SECTIONS}, "_base_", code_of)
    parts["default_hooks"] = f"dict(checkpoint=dict(interval=interval, save_best='{best}'))"
    return "".join(f"{name} = {code}\n" for name, code in parts.items())


def _parts(section: dict[str, Any], where: str, code_of: _Rule) -> dict[str, str]:
    parts = {}
    for key, value in section.items():
        if code := code_of(key, value, section, where) or _changes(value, f"{where}.{key}", code_of):
            parts[key] = code
    return parts


def _changes(value: Any, where: str, code_of: _Rule) -> str | None:
    """Returns the code that changes a value, or None if nothing changes.

    A dict inherits what does not change. Lists do not, so a changed item is written as `dict(_base_.name[0], key=...)`.
    """
    if isinstance(value, dict) and (parts := _parts(value, where, code_of)):
        items = [where] if "[" in where else []
        return _joined("dict(", items + [f"{key}={code}" for key, code in parts.items()], where) + ")"
    if isinstance(value, (list, tuple)):
        places = [f"{where}[{index}]" for index in range(len(value))]
        codes = [_changes(item, place, code_of) or place for item, place in zip(value, places, strict=True)]
        return _joined("[", codes, where) + "]" if codes != places else None
    return None


def _joined(opening: str, items: list[str], where: str) -> str:
    """Returns the code of a call or a list, with an item per line if it is long."""
    text, indent = opening + ", ".join(items), "\n" + "    " * len(re.findall(r"[.[]", where))
    return text if len(text) < _LINE else opening + indent + f",{indent}".join(items)
