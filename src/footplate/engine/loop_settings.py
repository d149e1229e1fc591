"""Reads the type of a loop from its config."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.error_context import at_key, with_origins
from footplate.registry import LOOPS


def loop_settings(cfg: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Returns a loop config with a default `type` if it has none. For training, `counts_epochs` selects the default.

    Args:
        cfg: `train_cfg`, `val_cfg` or `test_cfg`.
        mode: "train", "val" or "test".
    """
    settings = dict(cfg)
    if mode != "train":
        settings.setdefault("type", "ValLoop" if mode == "val" else "TestLoop")
    elif "type" not in settings:
        settings["type"] = "EpochBasedTrainLoop" if counts_epochs(cfg) else "IterBasedTrainLoop"
        settings.pop("by_epoch", None)
    return with_origins(settings, cfg)


def builds_data(settings: Mapping[str, Any], mode: str) -> bool:
    """Checks whether the loop of a config with a `type` builds its loaders and evaluators from their sections."""
    with at_key(f"{mode}_cfg"):
        return bool(getattr(LOOPS.resolve(settings["type"], settings), "builds_data", False))


def counts_epochs(train_cfg: Any) -> bool:
    """Checks whether a training loop, or its config dict, counts epochs rather than iterations.

    If the config has a `type`, the loop class determines the result. Otherwise, `by_epoch` does or, if it is not set,
    the presence of `max_iters`. Without a config, returns True.

    Raises:
        ArgumentError: `by_epoch` is not a bool.
    """
    if not isinstance(train_cfg, Mapping):
        return bool(getattr(train_cfg, "by_epoch", True))
    if "type" in train_cfg:
        with at_key("train_cfg"):
            return bool(getattr(LOOPS.resolve(train_cfg["type"], train_cfg), "by_epoch", True))
    if "by_epoch" in train_cfg:
        return check_flag("by_epoch", train_cfg["by_epoch"], key="train_cfg.by_epoch")
    return "max_iters" not in train_cfg
