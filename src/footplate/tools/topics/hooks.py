"""Explains the order in which hooks run."""

from collections.abc import Mapping
from typing import Any

from footplate.config import Config
from footplate.engine import HookList
from footplate.engine.hook_list import build_hooks
from footplate.engine.nonfinite import NonFiniteHook
from footplate.error_context import located
from footplate.errors import UnknownNameError
from footplate.registry import HOOKS
from footplate.tools.topics.parts import prepare

Order = dict[str, list[dict[str, Any]]]


def order_of_hooks(cfg: Config) -> tuple[HookList, list[str]]:
    """Builds the hooks of a config in the order in which they run.

    Returns:
        The hooks, and the names of hooks whose class is not installed.

    Raises:
        FootplateError: A hook cannot be built, or its name is a likely typo.
    """
    cfg = prepare(cfg)
    missing: list[str] = []
    with located(cfg):
        default = {
            name: hook for name, hook in (cfg.get("default_hooks") or {}).items() if not _is_missing(hook, missing)
        }
        custom = [hook for hook in cfg.get("custom_hooks") or () if not _is_missing(hook, missing)]
        hooks = build_hooks(default, custom)
        hooks.register(NonFiniteHook(cfg.get("on_nonfinite")))
    return hooks, missing


def explain_hooks(cfg: Config) -> str:
    """Returns a table of the hooks that run at each event, one line per event."""
    hooks, missing = order_of_hooks(cfg)
    lines = [hooks.describe(), *(f"not installed, so not shown: {name}" for name in missing)]
    return "\n".join(lines) + "\n"


def hooks_as_data(cfg: Config) -> dict[str, Any]:
    """Returns the hooks with their priority by event, and the names that are not installed, as data."""
    hooks, missing = order_of_hooks(cfg)
    events = {
        event: [{"hook": name, "priority": priority} for name, priority in acting] for event, acting in hooks.order()
    }
    return {"events": events, "not_installed": missing}


def _is_missing(hook: Any, missing: list[str]) -> bool:
    name = hook.get("type") if isinstance(hook, Mapping) else None
    if not isinstance(name, str):
        return False
    try:
        HOOKS.resolve(name, hook)
    except UnknownNameError as error:
        if error.suggestion is not None:
            raise
        missing.append(name)
        return True
    return False
