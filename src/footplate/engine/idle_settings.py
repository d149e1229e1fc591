"""Warns about settings without effect: variables and keys that nothing reads, and settings for what never happens."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from footplate.config import Config, find_late_changes, unread_overrides
from footplate.engine.config_compatibility import unsupported_conveniences
from footplate.engine.hook_list import HookList, build_hooks
from footplate.engine.sections import READ_KEYS
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


def warn_about_variables(cfg: Config) -> None:
    """Warns about variables that are changed after their last use, and about keys that only other engines support."""
    idle = [*find_late_changes(cfg, READ_KEYS), *unread_overrides(cfg, READ_KEYS), *unsupported_conveniences(cfg)]
    for sentence in idle:
        _logger.warning("%s", sentence)


def warn_about_idle_settings(runner: "Runner", schedules: Any) -> None:
    """Warns about settings of a run that can never take effect, for example because the run never validates.

    Args:
        runner: The runner, whose loops are built.
        schedules: The section `param_scheduler`, or the schedules.
    """
    loop: Any = runner.train_loop  # a user's loop may lack a length
    epochs = getattr(loop, "max_epochs", None) if getattr(loop, "by_epoch", False) else None
    iters, begin = getattr(loop, "max_iters", None), getattr(loop, "val_begin", 1)
    _warn(runner.cfg, runner.hooks, schedules, _reach(epochs, iters, begin, runner.hooks, runner.val_loop is not None))


def warn_about_idle_settings_of(cfg: Config) -> None:
    """Warns about settings that can never take effect, as far as the config alone shows. A run does so at its start.

    Args:
        cfg: The result of `check_config`.
    """
    hooks = build_hooks(cfg.get("default_hooks"), cfg.get("custom_hooks"))
    train = cfg.get("train_cfg") if isinstance(cfg.get("train_cfg"), Mapping) else {}
    epochs, iters, begin = train.get("max_epochs"), train.get("max_iters"), train.get("val_begin", 1)
    reach = _reach(epochs, iters, begin, hooks, cfg.get("val_cfg") is not None)
    _warn(cfg, hooks, cfg.get("param_scheduler"), reach)


def _reach(epochs: int | None, iters: int | None, begin: int, hooks: HookList, has_loop: bool) -> Reach:
    end = iters if epochs is None else epochs
    may_ask = any(  # hooks that may request additional validations
        getattr(hook, "asks_for_validation", not type(hook).__module__.startswith("footplate.")) for hook in hooks
    )
    ends_before = has_loop and end is not None and begin > end and not may_ask
    return Reach(epochs, iters, has_loop and not ends_before, ends_before)


def _warn(cfg: Any, hooks: HookList, schedules: Any, reach: Reach) -> None:
    """Warns about each setting without effect, with its key and its location in the config."""
    found = [("train_cfg.val_begin", f"the run ends before it, so {NEVER_VALIDATES}")] if reach.ends_before else []
    for hook in hooks:
        if isinstance(hook, KnowsIdleSettings):
            found += [(f"{hooks.key_of(hook)}.{setting}", reason) for setting, reason in hook.idle_settings(reach)]
    if not reach.validates:
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
        if getattr(kind, "takes_metrics", False):
            yield path
