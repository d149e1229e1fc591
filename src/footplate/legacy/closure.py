"""A hook made of a function."""

from collections.abc import Callable
from typing import Any

from footplate.errors import ArgumentError
from footplate.legacy.hook import GENERAL, Hook
from footplate.messages import nearest
from footplate.registry import HOOKS


@HOOKS.register_module()
class ClosureHook(Hook):
    """Calls a function at one event.

    Args:
        fn_name: The event, `after_train_iter`.
        fn: Called with the runner.

    Raises:
        ArgumentError: There is no such event, or `fn` cannot be called.
    """

    def __init__(self, fn_name: str, fn: Callable[[Any], Any]) -> None:
        known = (*GENERAL, "before_epoch", "after_epoch", "before_iter", "after_iter")
        if fn_name not in known:
            raise ArgumentError(
                f"unknown event '{fn_name}'", key="fn_name", found=fn_name, suggestion=nearest(fn_name, known)
            )
        if not callable(fn):
            raise ArgumentError("fn is called with the runner", key="fn", found=fn)
        setattr(self, fn_name, fn)
