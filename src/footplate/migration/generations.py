"""Which generation a config speaks."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.config import Config, KeyOrigin
from footplate.errors import ConfigError, origin_of

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
    """Tells whether a config is to be translated.

    Raises:
        ConfigError: It steps or schedules in both generations at once.
    """
    conflicting = [key for key in _CONFLICTING if key in cfg and not _is_idle(cfg[key])]
    stepping = [key for key in _STEPPING if key in cfg]
    if conflicting and stepping:
        raise ConfigError(
            "the config steps and schedules in both generations at once",
            key=conflicting[0],
            origin=origin_of(cfg, conflicting[0]),
            notes=[
                f"first generation: {', '.join(conflicting)}",
                f"second generation: {', '.join(key for key in SECOND_GENERATION_KEYS if key in cfg)}",
                "keep one of the two; `footplate migrate` says the first in the second's words",
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
    """Says in one line which first-generation keys of a second-generation config have no effect."""
    keys = [key for key in (*_CONFLICTING, *_LEFTOVERS) if _is_there(cfg, key)]
    if keys:
        _logger.warning("keys of the first generation beside the second, without effect: %s", ", ".join(keys))


def _is_there(cfg: AnyConfig, key: str) -> bool:
    """Tells whether a key means something to a run, rather than to other lines of the config, as a variable does."""
    origin = origin_of(cfg, key)
    return key in cfg and not (isinstance(origin, KeyOrigin) and origin.read)


def _is_idle(value: Any) -> bool:
    """Tells whether a section only meant to change what a base had, and no base has it any more."""
    return value is None or (isinstance(value, Mapping) and "_delete_" in value)
