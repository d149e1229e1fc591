"""Compares a model's numbers of classes with those of the data set."""

import logging
from typing import TYPE_CHECKING, Any

from footplate.distributed import unwrap_model
from footplate.engine import Hook
from footplate.errors import ArgumentError
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner

_logger = logging.getLogger("footplate.hooks")
# They tell objects from background, or carry a number of classes that they do not use.
_EXEMPT = ("rpn_head", "backbone")


@HOOKS.register_module()
class NumClassCheckHook(Hook):
    """Refuses a run whose heads have another number of classes than the data set."""

    priority = "NORMAL"

    def before_train_epoch(self, runner: "Runner") -> None:
        """Checks against the training data."""
        self._check(runner, runner.train_dataloader)

    def before_val_epoch(self, runner: "Runner") -> None:
        """Checks against the validation data."""
        sets = getattr(runner.val_loop, "sets", None)
        for loader in [runner.val_dataloader] if sets is None else [each.dataloader for each in sets]:
            self._check(runner, loader)

    def _check(self, runner: "Runner", loader: Any) -> None:
        dataset = getattr(loader, "dataset", None)
        classes = classes_of(dataset)
        if classes is None:
            _logger.warning("the data set '%s' does not name its classes", type(dataset).__name__)
            return
        for name, module in unwrap_model(runner.model).named_modules():
            count = getattr(module, "num_classes", None)
            if not isinstance(count, int) or count < 1 or name.rpartition(".")[2] in _EXEMPT:
                continue
            if count != len(classes):
                raise ArgumentError(
                    f"'{name or type(module).__name__}' has {count} classes, "
                    f"the data set '{type(dataset).__name__}' has {len(classes)}",
                    key="num_classes",
                    found=count,
                )


def classes_of(dataset: Any) -> Any:
    """Returns the names of a data set's classes, as either generation says them; None if it says none.

    Raises:
        ArgumentError: The classes are one string, where `('person',)` was meant.
    """
    metainfo = getattr(dataset, "metainfo", None) or {}
    classes = getattr(dataset, "CLASSES", None) or metainfo.get("classes", metainfo.get("CLASSES"))
    if isinstance(classes, str):
        raise ArgumentError(
            f"the classes of '{type(dataset).__name__}' are a string",
            found=classes,
            notes=[f"one class is ('{classes}',)"],
        )
    return classes
