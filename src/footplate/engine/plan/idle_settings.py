"""Warns about settings that have no effect."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.config import Config, find_unused_changes
from footplate.config.config_dict import is_variable
from footplate.engine.control.hook_list import HookList
from footplate.engine.plan.top_level_keys import keys_with_effect
from footplate.error_context import location_prefix, origin_at
from footplate.errors import FootplateError
from footplate.extensions import extensions
from footplate.models import PLAIN_FUNCTIONS
from footplate.optim.schedules import collect_steps

_logger = logging.getLogger("footplate.engine")


def warn_about_variables(cfg: Config) -> None:
    """Warns about top-level keys that have no effect, and about changes to variables that come after their last use.

    The warnings contain the keys of the user's config, even if `cfg` is its translation.
    """
    cfg = cfg._untranslated or cfg
    top = cfg.get("data_preprocessor")
    model = cfg.get("model")
    inner = model.get("data_preprocessor") if isinstance(model, Mapping) else None
    # The configs of many code bases define a top-level `data_preprocessor` only to use it in the model.
    is_copied = inner is not None and is_variable(cfg, "data_preprocessor")
    keys = keys_with_effect(cfg)
    for change in find_unused_changes(cfg, keys - {"data_preprocessor"} if is_copied else keys):
        _logger.warning("%s", change)
    known: dict[str, str] = {}
    for extension in extensions():
        known |= {key: f"{key} has no effect in footplate. {advice}" for key, advice in extension.ignored_keys.items()}
    advice = "In a config, derive the model from BaseModel, and set val_evaluator."
    known |= {key: f"{key} has no effect: it is an argument of Runner(...). {advice}" for key in PLAIN_FUNCTIONS}
    messages = {key: message for key, message in known.items() if _is_set(cfg, key) and not is_variable(cfg, key)}
    if top is not None and inner is not None and not is_copied and _without_scope(top) != _without_scope(inner):
        messages["data_preprocessor"] = (
            "data_preprocessor has no effect, because the model has its own. Change model.data_preprocessor instead."
        )
    _warn_about_keys(cfg, messages)


def warn_about_idle_settings(cfg: Any, hooks: HookList, schedules: Any = ()) -> None:
    """Warns about settings and hooks that need validation. Call this function only for runs without validation.

    Args:
        cfg: The config, used to report where each setting is defined.
        hooks: The run's hooks.
        schedules: The run's schedules.
    """
    messages = {}
    for hook in hooks:
        key, events = hooks.key_of(hook), hooks.events_of(hook)
        if events and all("_val" in event for event in events):
            name = f"{key} ({', '.join(events)})"
            messages[name] = f"{name} is never called: the run has no validation"
        try:
            hook.check_metrics(())
        except FootplateError as error:
            key = f"{key}.{error.key}"
            messages[key] = f"{key} has no effect: it needs a metric, but the run has no validation"
    if collect_steps(schedules).by_metrics:
        messages["param_scheduler"] = (
            "param_scheduler has no effect where a schedule needs a metric: the run has no validation"
        )
    _warn_about_keys(cfg, messages)


def _warn_about_keys(cfg: Any, messages: Mapping[str, str]) -> None:
    for key, message in messages.items():
        _logger.warning("%s%s", location_prefix(origin_at(cfg, key)), message)


def _is_set(cfg: Config, key: str) -> bool:
    """Checks whether a top-level key, or a key of a top-level section, has a value other than None, False or 0."""
    section, _, name = key.rpartition(".")
    found = cfg.get(section) if section else cfg
    return bool(isinstance(found, Mapping | Config) and found.get(name))


def _without_scope(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if key != "_scope_"}
