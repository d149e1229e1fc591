"""Scales learning rates with the global batch size: `auto_scale_lr`."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.checks import check_count, check_flag, check_keys
from footplate.distributed import get_data_world_size
from footplate.errors import ArgumentError

SCALING_KEYS = ("enable", "base_batch_size")  # the keys of auto_scale_lr
_logger = logging.getLogger("footplate.engine")
# Optimizers that compute their own step size: their lr is a factor of it and is not scaled.
_WITHOUT_RATE = ("DAdapt", "Prodigy")


def scale_learning_rates(optim_wrapper: Any, loader: Any, cfg: Mapping[str, Any] | None) -> None:
    """Scales all learning rates by the ratio of the global batch size to the batch size that the config assumes.

    Args:
        optim_wrapper: The wrapper of one optimizer, or of several.
        loader: The training loader.
        cfg: The value of `auto_scale_lr`, a dict with `enable` and `base_batch_size` (the number of samples per
            iteration over all processes).

    Raises:
        ArgumentError: A key is unknown, a value is invalid, or the loader has no batch size.

    Source: the linear scaling rule of Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.1.
    """
    base = base_batch_size(cfg)
    if base is None:
        return
    sizes = [getattr(each, "batch_size", None) for each in (loader, getattr(loader, "batch_sampler", None))]
    batch = next((size for size in sizes if isinstance(size, int)), None)
    if batch is None:
        raise ArgumentError(
            "auto_scale_lr requires the number of samples in a batch, but the training loader has no batch_size",
            key="enable",
            notes=["Set `train_dataloader=dict(batch_size=...)`."],
        )
    processes = get_data_world_size()
    factor = batch * processes / base
    _logger.info(
        "auto_scale_lr: %d x %d samples on %d processes = %d per iteration. With base_batch_size=%d, the factor is "
        "%g: %s",
        processes,
        batch,
        processes,
        batch * processes,
        base,
        factor,
        "; ".join(_scale(part.optimizer, name, factor) for name, part in optim_wrapper.parts.items()),
    )


def base_batch_size(cfg: Mapping[str, Any] | None) -> int | None:
    """Returns the global batch size that the configured learning rates assume, or None if scaling is disabled.

    Args:
        cfg: The value of `auto_scale_lr`; see `scale_learning_rates`.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    check_keys("auto_scale_lr", cfg or {}, SCALING_KEYS, prefix="")
    if cfg is None or not check_flag("enable", cfg.get("enable", False)):
        return None
    return check_count("base_batch_size", cfg.get("base_batch_size"))


def _scale(optimizer: Any, name: str, factor: float) -> str:
    """Scales the learning rates of one optimizer, and returns a description for the log."""
    label = f"{name}: " if name else ""
    kind = type(optimizer).__name__
    if kind.startswith(_WITHOUT_RATE) or not all(group.get("lr") is not None for group in optimizer.param_groups):
        return f"{label}{kind} computes its own step size, so its lr is not scaled"
    before = list(dict.fromkeys(float(group["lr"]) for group in optimizer.param_groups))
    for group in optimizer.param_groups:
        for rate in ("lr", "initial_lr"):
            if rate in group:
                group[rate] = group[rate] * factor
    return label + ", ".join(f"lr {rate:g} -> {rate * factor:g}" for rate in before)
