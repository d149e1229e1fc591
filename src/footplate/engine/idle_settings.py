"""Warns about settings that have no effect because the run ends too early or never validates."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from footplate.engine.hook_list import HookList
from footplate.error_context import origin_at
from footplate.optim.schedules import collect_steps

_logger = logging.getLogger("footplate.engine")
NEVER_VALIDATES = "the run never validates"


class RunExtent(NamedTuple):
    """The extent of a run. A length is None if it is unknown."""

    epochs: int | None  # the number of epochs
    iters: int | None  # the number of iterations
    validates: bool  # whether the run validates

    def length(self, *, by_epoch: bool) -> int | None:
        """Returns the length of the run in epochs or in iterations."""
        return self.epochs if by_epoch else self.iters


def warn_about_idle_settings(cfg: Any, hooks: HookList, train: Any, *, validates: bool, schedules: Any = ()) -> None:
    """Warns about settings of a run that can never take effect, for example because the run never validates.

    Hooks report their own settings: `idle_settings(extent)` yields the name of each setting without effect, and the
    reason.

    Args:
        cfg: The config, for the locations of the settings.
        hooks: The hooks of the run.
        train: The training loop, or its config dict. If the dict does not contain the length of the run, the length is
            unknown.
        validates: Whether the run has a validation loop.
        schedules: The schedules of the run.
    """
    names = ("by_epoch", "max_epochs", "max_iters")  # a user's loop may lack some
    known = train if isinstance(train, Mapping) else {name: getattr(train, name, None) for name in names}
    epochs = known.get("max_epochs") if known.get("by_epoch", True) else None
    extent = RunExtent(epochs, known.get("max_iters"), validates)
    idle = []
    for hook in hooks:
        if hasattr(hook, "idle_settings"):
            idle += [(f"{hooks.key_of(hook)}.{name}", reason) for name, reason in hook.idle_settings(extent)]
    if not validates and collect_steps(schedules).by_metrics:
        idle.append(("param_scheduler", f"a schedule waits for a metric, and {NEVER_VALIDATES}"))
    for path, reason in idle:
        origin = origin_at(cfg, path)
        _logger.warning("%s%s has no effect: %s", f"{origin}: " if origin else "", path, reason)
