"""Checks that the heads of a model have as many classes as the dataset."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.distributed import unwrap_model
from footplate.engine import Hook, Runner
from footplate.error_context import at_key, origin_of
from footplate.errors import ArgumentError
from footplate.messages import list_names
from footplate.registry import HOOKS

_logger = logging.getLogger("footplate.hooks")
# Modules that only separate objects from background, or have a number of classes but do not use it.
_EXEMPT = ("rpn_head", "backbone")
_MOST_NAMES = 12


@HOOKS.register_module()
class NumClassCheckHook(Hook):
    """Raises an error if a head has a different number of classes than the dataset."""

    priority = "NORMAL"

    def before_run(self, runner: Runner) -> None:
        """Checks the model against the training and the validation dataset before the first batch.

        Raises:
            ArgumentError: A head has a different number of classes.
        """
        for name in ("train_loop", "val_loop"):
            loop = runner.built.get(name)
            sets = getattr(loop, "sets", [] if loop is None else [loop])
            for each in sets:
                key = ".".join(filter(None, (name.replace("loop", "dataloader"), getattr(each, "name", ""), "dataset")))
                self._check(runner, getattr(getattr(each, "dataloader", None), "dataset", None), key)

    def _check(self, runner: Runner, dataset: Any, key: str) -> None:
        with at_key(key):
            classes = classes_of(dataset)
        if classes is None:
            _logger.warning("The dataset '%s' has no class names.", type(dataset).__name__)
            return
        for name, module in unwrap_model(runner.model).named_modules():
            count = getattr(module, "num_classes", None)
            if not isinstance(count, int) or count < 1 or name.rpartition(".")[2] in _EXEMPT:
                continue
            if count != len(classes):
                written = f"{key}.metainfo.classes"
                *parents, last = written.split(".")
                cfg: Any = runner.cfg
                for parent in parents:
                    cfg = cfg.get(parent) if hasattr(cfg, "get") else None
                origin = origin_of(cfg, last) if isinstance(cfg, Mapping) and last in cfg else None
                raise ArgumentError(
                    f"{repr(name) if name else 'the model'} has {count} classes, but "
                    f"the dataset '{type(dataset).__name__}' has {len(classes)}: {list_names(classes, _MOST_NAMES)}",
                    key=".".join(each for each in ("model", name, "num_classes") if each),
                    found=count,
                    notes=[f"The classes are set by {written}, at {origin}."] if origin else [],
                )


def classes_of(dataset: Any) -> Any:
    """Returns the class names of a dataset of either generation, or None if it has none.

    Raises:
        ArgumentError: The classes are a single string; `('person',)` was probably meant.
    """
    metainfo = getattr(dataset, "metainfo", None) or {}
    classes = getattr(dataset, "CLASSES", None) or metainfo.get("classes", metainfo.get("CLASSES"))
    if isinstance(classes, str):
        raise ArgumentError(
            f"the classes of '{type(dataset).__name__}' must be a sequence, not a string",
            key="metainfo.classes",
            found=classes,
            notes=[f"For a single class, write ('{classes}',)."],
        )
    return classes
