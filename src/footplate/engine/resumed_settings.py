"""Decides whether a resumed run uses the optimizer settings of its config or those of the checkpoint."""

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from footplate.config import Config
from footplate.config.key_paths import merge_options
from footplate.errors import Origin

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_DIGITS = 12  # significant digits; a difference in the last bit must not appear as a change of the config

Value = float | bool | str | None | tuple[Any, ...]
Settings = Mapping[str, Sequence[Mapping[str, Value]]]
Changes = set[tuple[Value, Value]]  # the config's value and the saved one, for each parameter group


def settings_of(runner: "Runner") -> Settings:
    """Returns the settings of each optimizer's parameter groups, as they were before schedules changed them.

    Settings are the arguments of the optimizer's class. All other fields of its parameter groups are its internal
    state.
    """
    settings: dict[str, list[dict[str, Value]]] = {}
    for name, part in runner.optim_wrapper.parts.items():
        try:
            arguments = list(inspect.signature(type(part.optimizer)).parameters)
        except (TypeError, ValueError):  # no signature
            arguments = []
        settings[name] = []
        for group in part.optimizer.param_groups:
            fields = [each for each in ("lr", "weight_decay", "momentum", *arguments) if each in group]
            # OneCycleLR and CyclicLR of torch change these and do not store the initial values.
            skipped = {"params", *(("momentum", "betas") if "base_momentum" in group else ())}
            values = {field: group.get(f"initial_{field}", group[field]) for field in fields if field not in skipped}
            if "betas" in values and "initial_momentum" in group:
                values["betas"] = (group["initial_momentum"], *values["betas"][1:])
            settings[name].append({field: _plain(value) for field, value in values.items()})
    return settings


def take_settings(runner: "Runner", before: Settings) -> None:
    """Replaces the optimizer settings that were loaded from a checkpoint with those of the config.

    Args:
        runner: The runner. Its schedules must be recomputed afterwards.
        before: The result of `settings_of` from before the state was loaded.
    """
    loaded = settings_of(runner)
    for name, part in runner.optim_wrapper.parts.items():
        changes: Changes = set()
        for group, saved, given in zip(part.optimizer.param_groups, loaded[name], before[name], strict=False):
            for field in [each for each in given if each in saved and saved[each] != given[each]]:
                value = given[field]
                for key in {field, f"initial_{field}"} & group.keys():
                    if isinstance(group[key], torch.Tensor):
                        group[key].fill_(value)
                    else:
                        stays_int = type(group[key]) is int and value == int(value or 0)  # type: ignore[arg-type]
                        group[key] = int(value) if stays_int else value  # type: ignore[arg-type]
                if isinstance(value, tuple) and field == "betas" and "initial_momentum" in group:
                    group["initial_momentum"] = value[0]
                if not _is_same(value, saved[field]):
                    changes.add((f"{field} {_shown(value)}", _shown(saved[field])))
        for change, old in sorted(changes, key=str):
            _logger.info("Resuming with the config's %s instead of the saved %s.", change, old)


def _plain(value: Any) -> Value:
    """Returns a setting in comparable form: ints and tensors become floats, and lists become tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if value is None or isinstance(value, (bool, str)):
        return value
    return float(value) if isinstance(value, (int, float, torch.Tensor)) else repr(value)


def _is_same(now: Value, saved: Value) -> bool:
    """Checks whether two values are equal to the precision of float32, in which compiled optimizers store their lr."""
    if isinstance(now, float) and isinstance(saved, float):
        return math.isclose(now, saved, rel_tol=1e-7)
    return now == saved


def keep_saved_settings(runner: "Runner", before: Settings) -> None:
    """Uses the optimizer settings of the checkpoint, and warns about each setting of the config that they replace.

    The runner gets a copy of its config with the saved settings, where a single value can express them. The user's
    config is not changed.

    Args:
        runner: The runner, whose optimizer has just loaded its state.
        before: The result of `settings_of` from before the state was loaded.
    """
    changed: dict[str, Changes] = {}
    for name, groups in settings_of(runner).items():
        for field in dict.fromkeys(field for group in groups for field in group):
            pairs = {
                (now[field], saved[field])
                for now, saved in zip(before[name], groups, strict=False)
                if field in now and field in saved
            }
            replaced = sorted((pair for pair in pairs if not _is_same(*pair)), key=str)
            for now, saved in replaced:
                _logger.warning(
                    "Ignoring the config's %s %s and resuming with the saved %s. To use the config's %s, set "
                    "resume_settings='take' (--resume-settings take).",
                    field,
                    _shown(now),
                    _shown(saved),
                    field,
                )
            if replaced:
                changed[".".join(["optim_wrapper", *filter(None, [name]), "optimizer", field])] = pairs
    if not changed or not isinstance(runner.cfg, Config):
        return
    cfg = runner.cfg = Config(runner.cfg, runner.cfg.text, runner.cfg.filename, runner.cfg.env_variables)
    scales = bool((cfg.get("auto_scale_lr") or {}).get("enable"))
    for path, pairs in changed.items():
        section: Any = cfg
        *parents, field = path.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, Mapping | Config) else None
        if isinstance(section, Mapping):
            for value in _common_value(section.get(field), pairs, scales=scales and field == "lr"):
                merge_options(cfg._cfg_dict, {path: value}, origin=Origin("the resumed checkpoint", 0))


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _common_value(written: Any, pairs: Changes, *, scales: bool = False) -> set[Value]:
    """Returns a set with the one value that gives all groups their saved setting, or an empty set if there is none.

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
