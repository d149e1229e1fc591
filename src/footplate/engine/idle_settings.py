"""Warns about settings that have no effect because the run ends too early."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch.optim.lr_scheduler import ReduceLROnPlateau

from footplate.engine.hook_list import HookList
from footplate.error_context import origin_at
from footplate.registry import PARAM_SCHEDULERS

_logger = logging.getLogger("footplate.engine")
NEVER_VALIDATES = "the run never validates"
_LOOP_SETTINGS = ("by_epoch", "max_epochs", "max_iters", "val_begin")  # a user's loop may lack some


class RunExtent(NamedTuple):
    """The extent of a run. A length is None if it is unknown."""

    epochs: int | None  # the number of epochs
    iters: int | None  # the number of iterations
    validates: bool  # whether the run ever validates

    def length(self, *, by_epoch: bool) -> int | None:
        """Returns the length of the run in epochs or in iterations."""
        return self.epochs if by_epoch else self.iters


@runtime_checkable
class KnowsIdleSettings(Protocol):
    """A hook that can report which of its settings have no effect on a run."""

    def idle_settings(self, extent: RunExtent) -> Iterable[tuple[str, str]]:
        """Yields each setting without effect, and the reason.

        Args:
            extent: The extent of the run.
        """


def warn_about_idle_settings(cfg: Any, hooks: HookList, schedules: Any, train: Any, *, has_validation: bool) -> None:
    """Warns about settings of a run that can never take effect, for example because the run never validates.

    Args:
        cfg: The config, for the locations of the settings.
        hooks: The hooks of the run.
        schedules: The section `param_scheduler`, or the schedules.
        train: The training loop, or its config dict. If the dict does not contain the length of the run, the length is
            unknown.
        has_validation: Whether the run has a validation loop.
    """
    known = train if isinstance(train, Mapping) else {name: getattr(train, name, None) for name in _LOOP_SETTINGS}
    iters, begin = known.get("max_iters"), known.get("val_begin")
    epochs = known.get("max_epochs") if known.get("by_epoch", True) else None
    end = iters if epochs is None else epochs
    may_ask = any(  # hooks that may request additional validations
        getattr(hook, "asks_for_validation", not type(hook).__module__.startswith("footplate.")) for hook in hooks
    )
    is_after_end = begin is not None and end is not None and begin > end
    ends_before = has_validation and is_after_end and not may_ask
    extent = RunExtent(epochs, iters, has_validation and not ends_before)
    found = [("train_cfg.val_begin", f"the run ends before it, so {NEVER_VALIDATES}")] if ends_before else []
    for hook in hooks:
        if isinstance(hook, KnowsIdleSettings):
            found += [(f"{hooks.key_of(hook)}.{setting}", reason) for setting, reason in hook.idle_settings(extent)]
    if not extent.validates:
        found += [
            (path, f"it waits for a metric, and {NEVER_VALIDATES}")
            for path in _waiting_schedules("param_scheduler", schedules)
        ]
    for path, reason in found:
        origin = origin_at(cfg, path)
        _logger.warning("%s%s has no effect: %s", f"{origin}: " if origin else "", path, reason)


def _waiting_schedules(path: str, schedules: Any) -> Iterator[str]:
    """Yields the key paths of schedules that need metrics."""
    if isinstance(schedules, Mapping) and "type" not in schedules:
        for name, each in schedules.items():
            yield from _waiting_schedules(f"{path}.{name}", each)
    elif isinstance(schedules, Sequence) and not isinstance(schedules, str):
        for place, each in enumerate(schedules):
            yield from _waiting_schedules(f"{path}[{place}]", each)
    elif schedules is not None:
        kind = PARAM_SCHEDULERS.resolve(schedules["type"]) if isinstance(schedules, Mapping) else schedules
        if getattr(kind, "takes_metrics", False) or isinstance(kind, ReduceLROnPlateau):
            yield path
