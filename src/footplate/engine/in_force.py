"""Which settings of the optimizer a resumed run goes on with, where the config says otherwise."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from footplate.config import Config
from footplate.config.merging import merge_options
from footplate.config.origins import Place

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_FIELDS = ("lr", "weight_decay", "momentum")
_DIGITS = 12  # of a rate that is reckoned, where a difference of the last bit would be one of the config

Settings = Mapping[str, Sequence[Mapping[str, float]]]


def settings_of(runner: "Runner") -> Settings:
    """Returns by optimizer what the groups are given before schedules move it."""
    return {
        name: [
            {field: float(group.get(f"initial_{field}", group[field])) for field in _FIELDS if _is_set(group, field)}
            for group in part.optimizer.param_groups
        ]
        for name, part in runner.optim_wrapper.parts.items()
    }


def keep_in_force(runner: "Runner", before: Settings) -> None:
    """Says which settings of the config do not count, since the run goes on with those that were saved.

    The config that the run keeps for the record gets those in their place; the user's own stays as it is.

    Args:
        runner: The runner, whose optimizer has just taken its state back.
        before: What `settings_of` gave before that.
    """
    found = {}
    for name, groups in settings_of(runner).items():
        for field in _FIELDS:
            pairs = {
                (now[field], then[field])
                for now, then in zip(before[name], groups, strict=False)
                if field in now and field in then
            }
            for now, then in sorted(pair for pair in pairs if pair[0] != pair[1]):
                _logger.warning(
                    "the config's %s %g does not count: the run goes on with %g, as it was saved; "
                    "load_from without resume begins anew with the saved weights and the config's %s",
                    field,
                    now,
                    then,
                    field,
                )
            path = ".".join(["optim_wrapper", *filter(None, [name]), "optimizer", field])
            if any(now != then for now, then in pairs):
                found[path] = pairs
    if found and isinstance(runner.cfg, Config):
        runner.cfg = _amended(runner.cfg, found)


def _is_set(group: Mapping[str, Any], field: str) -> bool:
    return group.get(field) is not None


def _amended(cfg: Config, found: Mapping[str, set[tuple[float, float]]]) -> Config:
    """Returns a copy of the config that says what is in force, as far as one number can."""
    cfg = Config(cfg, cfg.text, cfg.filename, cfg.env_variables)
    scales = bool((cfg.get("auto_scale_lr") or {}).get("enable"))
    for path, pairs in found.items():
        section: Any = cfg
        *parents, field = path.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, Mapping | Config) else None
        if not isinstance(section, Mapping):
            continue
        value = _in_force(section.get(field), pairs, scales=scales and field == "lr")
        if value is not None:
            merge_options(cfg._cfg_dict, {path: value}, origin=Place("the resumed checkpoint", 0))
    return cfg


def _in_force(written: object, pairs: set[tuple[float, float]], *, scales: bool = False) -> float | None:
    """The number that gives the groups what was saved, None where no number does.

    >>> _in_force(0.3, {(0.3, 0.1), (0.03, 0.01)}), _in_force(None, {(0.0, 0.5)}), _in_force(0.3, {(0.6, 0.2)})
    (0.1, 0.5, None)
    >>> _in_force(0.3, {(0.6, 0.2)}, scales=True)
    0.1
    """
    own = {then for now, then in pairs if written is None or now == written}
    if own or not scales or not isinstance(written, (int, float)):
        return own.pop() if len(own) == 1 else None
    found = {float(f"{written * then / now:.{_DIGITS}g}") if now else None for now, then in pairs}
    return found.pop() if len(found) == 1 else None
