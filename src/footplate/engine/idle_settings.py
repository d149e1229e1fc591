"""Warns about settings that have no effect in a run without validation."""

import logging
from typing import Any

from footplate.engine.hook_list import HookList
from footplate.error_context import origin_at
from footplate.errors import FootplateError
from footplate.optim.schedules import collect_steps

_logger = logging.getLogger("footplate.engine")


def warn_about_idle_settings(cfg: Any, hooks: HookList, schedules: Any = ()) -> None:
    """Warns about settings that need a metric if the run has no validation.

    Args:
        cfg: The config, used to report where each setting is defined.
        hooks: The run's hooks.
        schedules: The run's schedules.
    """
    idle = []
    for hook in hooks:
        try:
            hook.check_metrics(())
        except FootplateError as error:
            idle.append(f"{hooks.key_of(hook)}.{error.key}")
    if collect_steps(schedules).by_metrics:
        idle.append("param_scheduler")
    for key in idle:
        origin = origin_at(cfg, key)
        message = "%s%s has no effect: it needs a metric, but the run has no validation"
        _logger.warning(message, f"{origin}: " if origin else "", key)
