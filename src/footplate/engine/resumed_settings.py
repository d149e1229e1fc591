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
_DIGITS = 12  # of a computed rate: a difference in the last bit must not appear as a change of the config

Value = float | bool | str | None | tuple[Any, ...]
Settings = Mapping[str, Sequence[Mapping[str, Value]]]
Changes = set[tuple[Value, Value]]  # the config's value and the saved one, for each parameter group


def settings_of(runner: "Runner") -> Settings:
    """Returns the settings of each optimizer's parameter groups, as they were before schedules changed them.

    Only arguments of the optimizer's class count as settings. Anything else in its groups is its own state.
    """
    return {
        name: [dict(_settings_in(group, part.optimizer)) for group in part.optimizer.param_groups]
        for name, part in runner.optim_wrapper.parts.items()
    }


def _settings_in(group: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Value]]:
    try:
        arguments = list(inspect.signature(type(optimizer)).parameters)
    except (TypeError, ValueError):  # no signature
        arguments = []
    for field in dict.fromkeys(["lr", "weight_decay", "momentum", *arguments]):
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


def keep_saved_settings(runner: "Runner", before: Settings) -> None:
    """Warns about each optimizer setting in the config that the saved setting of the resumed run replaces.

    The runner's copy of the config gets the saved settings. The user's config is not changed.

    Args:
        runner: The runner, whose optimizer has just loaded its state.
        before: The result of `settings_of` before that.
    """
    changed: dict[str, Changes] = {}
    for name, groups in settings_of(runner).items():
        for field in dict.fromkeys(field for group in groups for field in group):
            pairs = {
                (now[field], saved[field])
                for now, saved in zip(before[name], groups, strict=False)
                if field in now and field in saved
            }
            replaced = sorted((pair for pair in pairs if pair[0] != pair[1]), key=str)
            for now, saved in replaced:
                _logger.warning(
                    "The config's %s %s is not used: the run resumes with the saved %s. To start over with the saved "
                    "weights and the config's %s, set load_from without resume.",
                    field,
                    _shown(now),
                    _shown(saved),
                    field,
                )
            if replaced:
                changed[".".join(["optim_wrapper", *filter(None, [name]), "optimizer", field])] = pairs
    if changed and isinstance(runner.cfg, Config):
        runner.cfg = _with_saved_settings(runner.cfg, changed)


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_saved_settings(cfg: Config, changed: Mapping[str, Changes]) -> Config:
    """Returns a copy of the config with the saved settings, where a single value can express them."""
    cfg = Config(cfg, cfg.text, cfg.filename, cfg.env_variables)
    scales = bool((cfg.get("auto_scale_lr") or {}).get("enable"))
    for path, pairs in changed.items():
        section: Any = cfg
        *parents, field = path.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, Mapping | Config) else None
        if not isinstance(section, Mapping):
            continue
        for value in _common_value(section.get(field), pairs, scales=scales and field == "lr"):
            merge_options(cfg._cfg_dict, {path: value}, origin=Place("the resumed checkpoint", 0))
    return cfg


def _common_value(written: Any, pairs: Changes, *, scales: bool = False) -> set[Value]:
    """Returns the single value that gives all groups their saved setting, or nothing if there is no such value.

    >>> _common_value(0.3, {(0.3, 0.1), (0.03, 0.01)}), _common_value(None, {(0.0, 0.5)})
    ({0.1}, {0.5})
    >>> _common_value(0.3, {(0.6, 0.2)}), _common_value(0.3, {(0.6, 0.2)}, scales=True)
    (set(), {0.1})
    >>> _common_value([0.9, 0.99], {((0.9, 0.99), (0.9, 0.999))})
    {(0.9, 0.999)}
    """
    found = {saved for now, saved in pairs if written is None or now == _plain(written)}
    if not found and scales and isinstance(written, (int, float)):
        rates = ((now, saved) for now, saved in pairs if isinstance(now, float) and isinstance(saved, float) and now)
        found = {float(f"{written * saved / now:.{_DIGITS}g}") for now, saved in rates}
    return found if len(found) == 1 else set()
