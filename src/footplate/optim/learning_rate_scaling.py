"""Scales learning rates by the batch size, as configured with `auto_scale_lr`."""

import logging
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from torch.optim import Optimizer

from footplate.checks import check_count, check_flag, check_keys
from footplate.distributed import get_world_size
from footplate.errors import ArgumentError
from footplate.optim.wrappers import OptimWrapper

SCALING_KEYS = ("enable", "base_batch_size")  # the keys of auto_scale_lr
_logger = logging.getLogger("footplate.optim")
# Prefixes of optimizers that compute their own step size. Their lr is only a factor of this step size, so
# `auto_scale_lr` does not change it.
_WITHOUT_RATE = ("DAdapt", "Prodigy")
_scaled: WeakSet[Optimizer] = WeakSet()  # the optimizers that `auto_scale_lr` has scaled


def scale_learning_rates(optim_wrapper: OptimWrapper, loader: Any, cfg: Mapping[str, Any] | None) -> None:
    """Scales learning rates by the global batch size, relative to the batch size that the config assumes.

    Does nothing if scaling is disabled. Skips optimizers that compute their own step size.

    Args:
        optim_wrapper: The wrapper for one or more optimizers.
        loader: The training loader.
        cfg: The value of `auto_scale_lr`: a dict with `enable` and `base_batch_size`, which is the number of samples
            per iteration over all processes.

    Raises:
        ArgumentError: A key is unknown, a value is invalid, the loader has no batch size, a torch scheduler sets the
            learning rates, or an earlier run has scaled or scheduled them.

    Source: the linear scaling rule of Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.1.
    """
    base = base_batch_size(cfg)
    if base is None:
        return
    sources = (loader, getattr(loader, "batch_sampler", None))
    sizes = (getattr(source, "batch_size", None) for source in sources)
    batch = next((size for size in sizes if isinstance(size, int)), None)
    if batch is None:
        raise ArgumentError(
            "auto_scale_lr needs a batch size, but the training loader and its batch sampler have no batch_size",
            key="enable",
            notes=["Set batch_size in train_dataloader, or as an attribute of your loader or batch sampler."],
        )
    processes = get_world_size()
    factor = batch * processes / base
    _logger.info(
        "auto_scale_lr: learning rate factor %g (processes: %d, samples per process: %d, base batch size: %d).",
        factor,
        processes,
        batch,
        base,
    )
    for part in optim_wrapper.parts.values():
        name = type(part.optimizer).__name__
        if name.startswith(_WITHOUT_RATE) or any(group.get("lr") is None for group in part.param_groups):
            _logger.info("%s computes its own step size, so its lr is not scaled.", name)
            continue
        if part.optimizer in _scaled:
            raise ArgumentError(
                "auto_scale_lr has already scaled the learning rates of this optimizer",
                key="enable",
                notes=["Create a new optimizer for each Runner."],
            )
        for group in part.param_groups:
            if "initial_lr" in group:  # schedules keep their own copies of the rates
                raise ArgumentError(
                    "auto_scale_lr cannot scale this optimizer, because a torch scheduler or an earlier run has set "
                    "initial_lr in its param_groups",
                    key="enable",
                    notes=[
                        f"Disable auto_scale_lr and multiply the rates by {factor:g}, or use a footplate schedule "
                        "with a new optimizer."
                    ],
                )
            group["lr"] = group["lr"] * factor
        _scaled.add(part.optimizer)


def base_batch_size(cfg: Mapping[str, Any] | None) -> int | None:
    """Returns the global batch size that the configured learning rates assume, or None if scaling is disabled.

    Args:
        cfg: The value of `auto_scale_lr`; see `scale_learning_rates`.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    check_keys("auto_scale_lr", cfg or {}, SCALING_KEYS)
    if cfg is None or not check_flag("enable", cfg.get("enable", False)):
        return None
    return check_count("base_batch_size", cfg.get("base_batch_size"))
