"""Detects the generation of a config."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.config import Config, KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ConfigError

_logger = logging.getLogger("footplate.migration")

AnyConfig = Config | Mapping[str, Any]

# What says in the first generation how a run steps, schedules, saves and logs.
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
# Top-level settings of the first generation that alone do not make a config one of it.
_SETTINGS_OF_BOTH = ("seed", "deterministic", "diff_seed", "device", "persistent_workers")
_STEPPING = ("optim_wrapper", "param_scheduler")
SECOND_GENERATION_KEYS = (
    *_STEPPING,
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
    """Checks whether a config is of the first generation and has to be translated.

    Raises:
        ConfigError: It sets up optimization in both generations at once.
    """
    conflicting = [key for key in _CONFLICTING if key in cfg and not _is_idle(cfg[key])]
    stepping = [key for key in _STEPPING if key in cfg]
    if conflicting and stepping:
        raise ConfigError(
            "the config sets up optimization in both generations at once",
            key=conflicting[0],
            origin=origin_of(cfg, conflicting[0]),
            notes=[
                f"first generation: {', '.join(conflicting)}",
                f"second generation: {', '.join(key for key in SECOND_GENERATION_KEYS if key in cfg)}",
                "keep one of the two; `footplate migrate` rewrites the first as the second",
            ],
        )
    if stepping:
        return False
    if conflicting or _is_there(cfg, "data") or _is_there(cfg, "runner"):
        return True
    if any(key in cfg for key in SECOND_GENERATION_KEYS):
        return False
    return any(_is_there(cfg, key) for key in (*_LEFTOVERS, "optimizer"))


def warn_of_leftovers(cfg: AnyConfig) -> None:
    """Warns of first-generation keys that have no effect in a second-generation config."""
    keys = [key for key in (*_CONFLICTING, *_LEFTOVERS, *_SETTINGS_OF_BOTH) if _is_there(cfg, key)]
    if keys:
        _logger.warning("first-generation keys in a second-generation config have no effect: %s", ", ".join(keys))


def _is_there(cfg: AnyConfig, key: str) -> bool:
    """Checks whether a key configures the run, rather than being a variable that other lines of the config use."""
    origin = origin_of(cfg, key)
    return key in cfg and not (isinstance(origin, KeyOrigin) and origin.read)


def _is_idle(value: Any) -> bool:
    """Checks whether a section only modified a section of a base that is gone."""
    return value is None or (isinstance(value, Mapping) and "_delete_" in value)
