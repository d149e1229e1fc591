"""Warns about settings that never take effect because the run ends earlier or never validates."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from footplate.engine.hook_list import HookList
from footplate.error_context import origin_at
from footplate.registry import PARAM_SCHEDULERS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
NEVER_VALIDATES = "the run never validates"


class Reach(NamedTuple):
    """The extent of a run, as far as it is known.

    Attributes:
        epochs: The number of epochs.
        iters: The number of iterations.
        validates: Whether the run ever validates.
        ends_before: Whether the run has a validation but ends before the first one is due.
    """

    epochs: int | None
    iters: int | None
    validates: bool
    ends_before: bool = False

    def length(self, *, by_epoch: bool) -> int | None:
        """Returns the length of the run in epochs or in iterations."""
        return self.epochs if by_epoch else self.iters


@runtime_checkable
class KnowsIdleSettings(Protocol):
    """A hook that can report which of its settings have no effect on a run."""

    def idle_settings(self, reach: Reach) -> Iterable[tuple[str, str]]:
        """Yields each setting without effect, and the reason.

        Args:
            reach: The extent of the run.
        """


def name_idle_settings(cfg: Any, hooks: HookList, schedules: Any, reach: Reach) -> None:
    """Warns about each setting without effect, with its key and its location in the config.

    Args:
        cfg: The config.
        hooks: The hooks of the run.
        schedules: The section `param_scheduler`, or the schedules.
        reach: The extent of the run.
    """
    found = [*_of_hooks(hooks, reach), *_of_schedules("param_scheduler", schedules, reach)]
    if reach.ends_before:
        found.insert(0, ("train_cfg.val_begin", f"the run ends before it, so {NEVER_VALIDATES}"))
    for path, reason in found:
        origin = origin_at(cfg, path)
        _logger.warning("%s%s has no effect: %s", f"{origin}: " if origin else "", path, reason)


def reach_of(runner: "Runner") -> Reach:
    """Returns the extent of a run whose loops are built."""
    loop: Any = runner.train_loop  # a user's loop may lack a length
    iters = getattr(loop, "max_iters", None)
    epochs = getattr(loop, "max_epochs", None) if getattr(loop, "by_epoch", False) else None
    end, begin = iters if epochs is None else epochs, getattr(loop, "val_begin", 1)
    ends_before = runner.val_loop is not None and end is not None and begin > end and not _may_ask(runner.hooks)
    return Reach(epochs, iters, runner.val_loop is not None and not ends_before, ends_before)


def reach_in(sections: Mapping[str, Any], hooks: HookList) -> Reach:
    """Returns the extent of a run as far as the config alone determines it.

    Args:
        sections: The runner's arguments by name.
        hooks: The hooks of the run.
    """
    train = sections["train_cfg"] if isinstance(sections["train_cfg"], Mapping) else {}
    epochs, iters = train.get("max_epochs"), train.get("max_iters")
    end, begin = iters if epochs is None else epochs, train.get("val_begin", 1)
    has_loop = sections["val_cfg"] is not None
    ends_before = has_loop and end is not None and begin > end and not _may_ask(hooks)
    return Reach(epochs, iters, has_loop and not ends_before, ends_before)


def _may_ask(hooks: HookList) -> bool:
    """Checks whether a hook may request additional validations."""
    return any(getattr(hook, "asks_for_validation", not _is_ours(hook)) for hook in hooks)


def _is_ours(hook: object) -> bool:
    return type(hook).__module__.startswith("footplate.")


def _of_hooks(hooks: HookList, reach: Reach) -> Iterator[tuple[str, str]]:
    for hook in hooks:
        if isinstance(hook, KnowsIdleSettings):
            for setting, reason in hook.idle_settings(reach):
                yield f"{hooks.key_of(hook)}.{setting}", reason


def _of_schedules(path: str, schedules: Any, reach: Reach) -> Iterator[tuple[str, str]]:
    if reach.validates:
        return
    if isinstance(schedules, Mapping) and "type" not in schedules:
        for name, each in schedules.items():
            yield from _of_schedules(f"{path}.{name}", each, reach)
    elif isinstance(schedules, Sequence) and not isinstance(schedules, str):
        for place, each in enumerate(schedules):
            yield from _of_schedules(f"{path}[{place}]", each, reach)
    elif schedules is not None:
        kind = PARAM_SCHEDULERS.resolve(schedules["type"]) if isinstance(schedules, Mapping) else schedules
        if getattr(kind, "takes_metrics", False):
            yield path, f"it waits for a metric, and {NEVER_VALIDATES}"
