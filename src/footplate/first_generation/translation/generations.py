"""Detects the generation of a config."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.config import Config, KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ConfigError

_logger = logging.getLogger("footplate.first_generation")

AnyConfig = Config | Mapping[str, Any]

# First-generation keys for optimization, schedules, checkpoints and logs; they conflict with `optim_wrapper`.
_CONFLICTING = ("lr_config", "optimizer_config", "momentum_config", "checkpoint_config", "log_config")
_LEFTOVERS = (
    "runner",
    "total_epochs",
    "total_iters",
    "workflow",
    "evaluation",
    "data",
    "fp16",
    "resume_from",
    "auto_resume",
    "cudnn_benchmark",
    "mp_start_method",
    "opencv_num_threads",
    "dist_params",
    "gpu_ids",
)
# First-generation settings that occur in second-generation configs too, so they do not decide the generation.
_SHARED_SETTINGS = ("seed", "deterministic", "diff_seed", "device", "persistent_workers")
_OPTIMIZATION_KEYS = ("optim_wrapper", "param_scheduler")
SECOND_GENERATION_KEYS = (
    *_OPTIMIZATION_KEYS,
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "val_evaluator",
    "test_evaluator",
    "default_hooks",
    "val_cfg",
)

FIRST_GENERATION_KEYS = (*_CONFLICTING, *_LEFTOVERS, "optimizer", "seed", "device")


def is_first_generation(cfg: AnyConfig) -> bool:
    """Checks whether a config is a first-generation config.

    Raises:
        ConfigError: The config sets up optimization with keys of both generations.
    """
    conflicting = [key for key in _CONFLICTING if key in cfg and not _is_empty_override(cfg[key])]
    second = [key for key in _OPTIMIZATION_KEYS if key in cfg]
    if conflicting and second:
        raise ConfigError(
            "the config sets up optimization with keys of both generations",
            key=conflicting[0],
            origin=origin_of(cfg, conflicting[0]),
            notes=[
                f"first generation: {', '.join(conflicting)}",
                f"second generation: {', '.join(key for key in SECOND_GENERATION_KEYS if key in cfg)}",
                "keep one of the two; `footplate migrate` rewrites a first-generation config",
            ],
        )
    if second:
        return False
    if conflicting or _is_setting(cfg, "data") or _is_setting(cfg, "runner"):
        return True
    if any(key in cfg for key in SECOND_GENERATION_KEYS):
        return False
    return any(_is_setting(cfg, key) for key in (*_LEFTOVERS, "optimizer"))


def warn_about_leftovers(cfg: AnyConfig) -> None:
    """Warns about first-generation keys that have no effect in a second-generation config."""
    keys = [key for key in (*_CONFLICTING, *_LEFTOVERS, *_SHARED_SETTINGS) if _is_setting(cfg, key)]
    if keys:
        _logger.warning("first-generation keys in a second-generation config have no effect: %s", ", ".join(keys))


def _is_setting(cfg: AnyConfig, key: str) -> bool:
    """Checks whether a key is a setting of the run, and not a variable that other lines of the config read."""
    origin = origin_of(cfg, key)
    return key in cfg and not (isinstance(origin, KeyOrigin) and origin.read)


def _is_empty_override(value: Any) -> bool:
    """Checks whether a section is None, or overrides a base section that does not exist."""
    return value is None or (isinstance(value, Mapping) and "_delete_" in value)
