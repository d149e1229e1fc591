"""Finds the class and the settings of a loop in its config."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.engine.loops.base_loops import BaseLoop, BaseTrainLoop
from footplate.error_context import at_key, with_origins
from footplate.errors import BuildError
from footplate.extensions import extensions
from footplate.registry import LOOPS
from footplate.registry.arguments import arguments_of


def loop_settings(cfg: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Returns a loop config with a default `type` if it has none.

    For training, the default depends on `by_epoch` or, if it is not set, on the presence of `max_iters`.

    Args:
        cfg: `train_cfg`, `val_cfg` or `test_cfg`.
        mode: "train", "val" or "test".
    """
    settings = dict(cfg)
    if mode != "train":
        settings.setdefault("type", "ValLoop" if mode == "val" else "TestLoop")
    elif "type" not in settings:
        by_epoch = check_flag("by_epoch", settings.pop("by_epoch", "max_iters" not in cfg))
        settings["type"] = "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop"
    return with_origins(settings, cfg)


def resolve_loop(cfg: Mapping[str, Any], mode: str) -> tuple[type[BaseLoop], dict[str, Any]]:
    """Returns a loop config's class and its settings, as returned by `loop_settings`.

    Removes settings that extensions ignore, unless the class accepts them.

    Raises:
        FootplateError: The type is unknown, or is not a loop for this mode.
    """
    settings = loop_settings(cfg, mode)
    loop_class: Any = LOOPS.resolve(settings["type"], settings)
    check_loop_class(loop_class, BaseLoop, "type")
    if mode == "train" and not issubclass(loop_class, BaseTrainLoop):
        for extension in extensions():
            loop_class = extension.training_loop(loop_class)
        check_loop_class(loop_class, BaseTrainLoop, "type")
        settings["type"] = loop_class
    ignored = {path for extension in extensions() for path in extension.ignored_keys}
    for key in [key for key in settings if f"{mode}_cfg.{key}" in ignored]:
        if key not in arguments_of(loop_class).types:
            del settings[key]
    return loop_class, settings


def counts_epochs(train_cfg: Any) -> bool:
    """Checks whether a training loop, or its config dict, counts epochs rather than iterations.

    If the config has a `type`, the loop class determines the result. Otherwise, `by_epoch` does or, if it is not set,
    the presence of `max_iters`, which may also come from the Runner's argument. Without a config, returns True.

    Raises:
        FootplateError: `by_epoch` is not a bool, or the type is unknown or not a training loop.
    """
    if isinstance(train_cfg, Mapping):
        with at_key("train_cfg"):
            train_cfg, _ = resolve_loop(train_cfg, "train")
    return bool(getattr(train_cfg, "by_epoch", True))


def check_loop_class(loop_class: Any, base: type[BaseLoop], key: str) -> None:
    """Raises a BuildError if a loop class is not derived from `base`."""
    if not issubclass(loop_class, base):
        raise BuildError(f"the loop must be derived from {base.__name__}", found=loop_class, key=key)
