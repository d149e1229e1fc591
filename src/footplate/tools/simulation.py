"""Simulates a run without training: the optimizer settings of every parameter at every iteration."""

import bisect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from footplate.config import Config
from footplate.distributed import unwrap_model
from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.first_generation.translation import Kind, is_first_generation, translate_sections
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.optim.schedules import LiveField, ScheduleSteps, collect_steps, field_key, field_slot

_logger = logging.getLogger("footplate.tools")

FIELDS = ("lr", "momentum", "weight_decay")

Trajectory = dict[str, list[Any]]


class _Column(NamedTuple):
    """The recorded values of one field of a parameter group."""

    slot: Mapping[str, Any]
    key: str
    values: list[Any]


def simulate(
    cfg: Mapping[str, Any] | Config,
    model: nn.Module,
    epoch_length: int | None = None,
    iters: Iterable[int] | None = None,
) -> dict[str, Trajectory]:
    """Returns the optimizer settings of every parameter over a run, without training.

    The optimizer and the schedules are built and stepped as in training. Parameters of one group share their lists.

    Args:
        cfg: A config of either generation, or its sections for the optimization: `optim_wrapper`, `param_scheduler` and
            `train_cfg`, or `optimizer`, `lr_config`, `momentum_config` and `runner`.
        model: The model with the parameters. It is not changed.
        epoch_length: The iterations per epoch, for runs and schedules by epoch.
        iters: The iterations to return, counted from 0. Defaults to all.

    Returns:
        `{parameter name: {"lr": [...], "momentum": [...], "weight_decay": [...]}}` with one value for each of `iters`,
        the one in effect during that iteration. `momentum` is the first beta if the optimizer has betas. A field that
        the optimizer lacks is None throughout. Schedules that depend on a metric stay constant.

    Raises:
        FootplateError: The config cannot be built, or does not say how long it trains.
    """
    section = _second_generation(cfg)
    wanted = None if iters is None else list(iters)
    epochs, total = _length(section.get("train_cfg"), epoch_length, wanted)
    wrapper = build_optim_wrapper(model, section.get("optim_wrapper"))
    schedules = build_param_schedulers(
        section.get("param_scheduler"), wrapper, epoch_length=epoch_length, max_epochs=epochs, max_iters=total
    )
    if wanted is None:
        wanted = list(range(total))
    order = sorted(set(wanted))
    parts = list(schedules.values()) if isinstance(schedules, Mapping) else [schedules]
    scheduled = {each.param_name for part in parts for each in part}
    names = {id(parameter): name for name, parameter in unwrap_model(model).named_parameters()}
    recorder = _Recorder(wrapper, scheduled, names)
    # A run by iterations never ends an epoch, whatever `epoch_length` is.
    by_epoch = (section.get("train_cfg") or {}).get("max_iters") is None
    _run_schedules(collect_steps(schedules), recorder, order, epoch_length if by_epoch else None)
    return recorder.trajectories(order, wanted)


def _second_generation(cfg: Mapping[str, Any] | Config) -> Mapping[str, Any]:
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    if not is_first_generation(cfg):
        return cfg
    translation = translate_sections(cfg)
    for note in translation.notes:
        if note.kind is not Kind.BECAME:
            _logger.warning("%s", note)
    for hook in translation.sections.get("custom_hooks") or ():
        if isinstance(hook, Mapping) and str(hook.get("type")).endswith("UpdaterHook"):
            _logger.warning("%s is a custom policy, which acts only in training and is not simulated.", hook["type"])
    return translation.sections


def _length(train_cfg: Any, epoch_length: int | None, iters: Sequence[int] | None) -> tuple[int | None, int]:
    """Returns the number of epochs and of iterations of the run."""
    cfg = train_cfg or {}
    if cfg.get("max_iters") is not None:
        epochs, total = 1, cfg["max_iters"]
    elif cfg.get("max_epochs") is not None:
        if not epoch_length:
            raise ArgumentError("an epoch-based run needs epoch_length to be simulated", key="epoch_length")
        epochs, total = cfg["max_epochs"], cfg["max_epochs"] * epoch_length
    elif iters is not None:
        return None, max(iters, default=-1) + 1
    else:
        raise ArgumentError(
            "the config does not set the length of the run", key="train_cfg", origin=origin_of(cfg), found=train_cfg
        )
    for iteration in iters or ():
        if not 0 <= iteration < total:
            raise ArgumentError(f"the run has iterations 0 to {total - 1}", key="iters", found=iteration)
    return epochs, total


class _Recorder:
    """Records the fields of each group: a column for a field that changes, a single value for a constant one."""

    def __init__(self, wrapper: Any, scheduled: set[str], names: Mapping[int, str]) -> None:
        self.columns: list[_Column] = []
        self._groups: list[tuple[list[str], dict[str, Any]]] = []
        for each in wrapper.parts.values():
            for number, group in enumerate(each.param_groups):
                members = [names[id(parameter)] for parameter in group["params"] if id(parameter) in names]
                fields = {field: self._record(each.optimizer, number, field, field in scheduled) for field in FIELDS}
                self._groups.append((members, fields))

    def _record(self, optimizer: Any, number: int, field: str, is_scheduled: bool) -> Any:
        group, key = optimizer.param_groups[number], field_key(optimizer, field)
        if key not in group:
            return None
        slot = LiveField(group) if isinstance(group[key], Tensor) else field_slot(group, key, first=key != field)
        if not is_scheduled:
            return slot[key]
        column = _Column(slot, key, [])
        self.columns.append(column)
        return column

    def trajectories(self, order: Sequence[int], wanted: Sequence[int]) -> dict[str, Trajectory]:
        """Returns the values at each of `wanted`, which may repeat. The columns hold the values at `order`."""
        places = None if wanted == order else [bisect.bisect_left(order, iteration) for iteration in wanted]
        found: dict[str, Trajectory] = {}
        for members, fields in self._groups:
            values = {field: _values_at(each, places, len(wanted)) for field, each in fields.items()}
            found.update((name, values) for name in members)
        return found


def _values_at(recorded: Any, places: list[int] | None, count: int) -> list[Any]:
    if not isinstance(recorded, _Column):
        return [recorded] * count
    return recorded.values if places is None else [recorded.values[place] for place in places]


def _run_schedules(steps: ScheduleSteps, recorder: _Recorder, order: Sequence[int], epoch_length: int | None) -> None:
    """Steps the schedules to the last iteration of `order`, and records the values at each iteration of `order`."""
    read: list[tuple[Callable[[Any], None], Mapping[str, Any], str]] = [
        (column.values.append, column.slot, column.key) for column in recorder.columns
    ]
    upcoming = iter(order)
    following = next(upcoming, None)
    for iteration in range(order[-1] + 1 if order else 0):
        if iteration == following:
            for append, slot, key in read:
                append(slot[key])
            following = next(upcoming, None)
        for step in steps.by_iter:
            step()
        if epoch_length and (iteration + 1) % epoch_length == 0:
            for step in steps.by_epoch:
                step()
