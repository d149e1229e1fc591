"""Warns about settings that have no effect because the run ends too early or its checkpoint overrides them.

On request, a resumed run uses the optimizer settings of its config.
"""

import inspect
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from footplate.config import Config
from footplate.config.key_paths import merge_options
from footplate.config.origins import Place
from footplate.engine.hook_list import HookList
from footplate.error_context import origin_at
from footplate.registry import PARAM_SCHEDULERS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
NEVER_VALIDATES = "the run never validates"
_LOOP_SETTINGS = ("by_epoch", "max_epochs", "max_iters", "val_begin")  # a user's loop may lack some
_DIGITS = 12  # significant digits; a difference in the last bit must not appear as a change of the config

Value = float | bool | str | None | tuple[Any, ...]
Settings = Mapping[str, Sequence[Mapping[str, Value]]]
Changes = set[tuple[Value, Value]]  # the config's value and the saved one, for each parameter group


class Reach(NamedTuple):
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

    def idle_settings(self, reach: Reach) -> Iterable[tuple[str, str]]:
        """Yields each setting without effect, and the reason.

        Args:
            reach: The extent of the run.
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
    reach = Reach(epochs, iters, has_validation and not ends_before)
    found = [("train_cfg.val_begin", f"the run ends before it, so {NEVER_VALIDATES}")] if ends_before else []
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
        if getattr(kind, "takes_metrics", False) or isinstance(kind, ReduceLROnPlateau):
            yield path


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
    """Warns about each optimizer setting in the config that is replaced by the saved one in a resumed run.

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
                merge_options(cfg._cfg_dict, {path: value}, origin=Place("the resumed checkpoint", 0))


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
