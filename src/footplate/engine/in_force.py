"""Reports optimizer settings of the config that a resumed run ignores in favor of the saved ones."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from footplate.config import Config
from footplate.config.key_paths import merge_options
from footplate.config.origins import Place

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_FIELDS = ("lr", "weight_decay", "momentum")
_DIGITS = 12  # of a computed rate: a difference in the last bit must not appear as a change of the config

Value = float | bool | str | None | tuple[Any, ...]
Settings = Mapping[str, Sequence[Mapping[str, Value]]]


def settings_of(runner: "Runner") -> Settings:
    """Returns the settings of each optimizer's parameter groups, as they were before schedules changed them.

    Only arguments of the optimizer's class count as settings. Anything else in its groups is its own state.
    """
    return {
        name: [dict(_settings_in(group, _fields_of(part.optimizer))) for group in part.optimizer.param_groups]
        for name, part in runner.optim_wrapper.parts.items()
    }


def _fields_of(optimizer: torch.optim.Optimizer) -> list[str]:
    try:
        taken = list(inspect.signature(type(optimizer)).parameters)
    except (TypeError, ValueError):  # no signature
        taken = []
    return list(dict.fromkeys([*_FIELDS, *taken]))


def _settings_in(group: Mapping[str, Any], fields: Sequence[str]) -> Iterator[tuple[str, Value]]:
    for field in fields:
        if field == "params" or field not in group:
            continue
        value = group.get(f"initial_{field}", group[field])
        if field == "betas" and "initial_momentum" in group:
            value = (group["initial_momentum"], *value[1:])
        yield field, _plain(value)


def _plain(value: Any) -> Value:
    """Returns a setting in comparable form: 1 becomes 1.0, a list a tuple, a tensor a number."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if value is None or isinstance(value, (bool, str)):
        return value
    return float(value) if isinstance(value, (int, float, torch.Tensor)) else repr(value)


def keep_in_force(runner: "Runner", before: Settings) -> None:
    """Warns about each optimizer setting in the config that the saved setting of the resumed run replaces.

    The runner's copy of the config gets the saved settings. The user's config is not changed.

    Args:
        runner: The runner, whose optimizer has just loaded its state.
        before: The result of `settings_of` before that.
    """
    found: dict[str, set[tuple[Value, Value]]] = {}
    for name, groups in settings_of(runner).items():
        for field in dict.fromkeys(field for group in groups for field in group):
            pairs = {
                (now[field], then[field])
                for now, then in zip(before[name], groups, strict=False)
                if field in now and field in then
            }
            for now, then in sorted((pair for pair in pairs if pair[0] != pair[1]), key=str):
                _logger.warning(
                    "the config's %s %s does not count: the run goes on with %s, as it was saved; "
                    "load_from without resume starts over with the saved weights and the config's %s",
                    field,
                    _shown(now),
                    _shown(then),
                    field,
                )
            path = ".".join(["optim_wrapper", *filter(None, [name]), "optimizer", field])
            if any(now != then for now, then in pairs):
                found[path] = pairs
    if found and isinstance(runner.cfg, Config):
        runner.cfg = _amended(runner.cfg, found)


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _amended(cfg: Config, found: Mapping[str, set[tuple[Value, Value]]]) -> Config:
    """Returns a copy of the config with the settings in effect, where a single value can express them."""
    cfg = Config(cfg, cfg.text, cfg.filename, cfg.env_variables)
    scales = bool((cfg.get("auto_scale_lr") or {}).get("enable"))
    for path, pairs in found.items():
        section: Any = cfg
        *parents, field = path.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, Mapping | Config) else None
        if not isinstance(section, Mapping):
            continue
        for value in _in_force(section.get(field), pairs, scales=scales and field == "lr"):
            merge_options(cfg._cfg_dict, {path: value}, origin=Place("the resumed checkpoint", 0))
    return cfg


def _in_force(written: Any, pairs: set[tuple[Value, Value]], *, scales: bool = False) -> set[Value]:
    """Returns the single value that gives all groups their saved setting, or nothing if there is no such value.

    >>> _in_force(0.3, {(0.3, 0.1), (0.03, 0.01)}), _in_force(None, {(0.0, 0.5)}), _in_force(0.3, {(0.6, 0.2)})
    ({0.1}, {0.5}, set())
    >>> _in_force(0.3, {(0.6, 0.2)}, scales=True), _in_force([0.9, 0.99], {((0.9, 0.99), (0.9, 0.999))})
    ({0.1}, {(0.9, 0.999)})
    """
    found = {then for now, then in pairs if written is None or now == _plain(written)}
    if not found and scales and isinstance(written, (int, float)):
        rates = ((now, then) for now, then in pairs if isinstance(now, float) and isinstance(then, float) and now)
        found = {float(f"{written * then / now:.{_DIGITS}g}") for now, then in rates}
    return found if len(found) == 1 else set()
