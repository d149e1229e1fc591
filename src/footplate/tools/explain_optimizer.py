"""Explains the optimizer: its parameter groups, and how its settings change over a run."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import plotille  # type: ignore[import-untyped, unused-ignore]
from torch import nn

from footplate.engine.plan.plan import RunPlan
from footplate.error_context import located
from footplate.messages import list_names, pluralize
from footplate.optim import build_optim_wrapper
from footplate.optim.constructors import merge_groups
from footplate.tools.explain_loops import find_epoch_length, name_of
from footplate.tools.simulation import FIELDS, run_length, simulate_and_list_ignored
from footplate.tools.trial import build_alone

_GROUP_FIELDS = ("lr", "momentum", "betas", "weight_decay")
_MAX_NAMES = 3  # parameters to list
_POINTS = 512
_ROWS = 12
_MAX_TRACKS = 3  # in a plot and a table
_DIGITS = len("1.23456e-05")
_WIDTH, _HEIGHT = 44, 12  # of a plot, in characters


class GroupInfo(NamedTuple):
    """The settings and the parameters of a parameter group."""

    optimizer: str  # the optimizer class, prefixed with the name of the optimizer if there are several
    settings: dict[str, Any]  # learning rate, momentum or betas, and weight decay
    multipliers: dict[str, float]  # the ratio of each changed setting to the optimizer's default
    names: list[str]  # the names of the parameters
    size: int  # the number of elements in all parameters
    reasons: list[str]  # the keys of `paramwise_cfg` that created the group; empty if none did


class Groups(NamedTuple):
    """All parameter groups, and the frozen parameters."""

    model: str  # a description of the model
    groups: list[GroupInfo]
    frozen: list[str]  # the names of parameters that are not trained; FreezeHook may freeze others in training


def groups_of(plan: RunPlan) -> Groups:
    """Builds the optimizer of a config and returns its parameter groups.

    Args:
        plan: The plan of the run.

    Raises:
        FootplateError: A component cannot be built.
    """
    with located(plan.cfg):
        model = build_alone(plan)
        groups = groups_in(build_optim_wrapper(model, plan["optim_wrapper"]), model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    return Groups(f"model {name_of(plan['model'])}", groups, frozen)


def groups_in(wrapper: Any, model: nn.Module) -> list[GroupInfo]:
    """Returns the parameter groups of a built optimizer. Groups with equal settings are merged.

    Args:
        wrapper: The optimizer wrapper, with one or more optimizers.
        model: The model whose parameters are optimized.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = []
    for part, inner in wrapper.parts.items():
        defaults = inner.optimizer.defaults
        for group in merge_groups(inner.param_groups):
            kind = type(inner.optimizer).__name__
            if "use_muon" in group:
                kind += " (Muon)" if group["use_muon"] else " (AdamW)"
            members = [names.get(parameter, "?") for parameter in group["params"]]
            # A schedule that was already built has changed the learning rate.
            settings = {field: group.get(f"initial_{field}", group[field]) for field in _GROUP_FIELDS if field in group}
            multipliers = {
                field: settings[field] / defaults[field]
                for field in ("lr", "weight_decay")
                if defaults.get(field) and settings[field] != defaults[field]
            }
            reasons = {reason for name in members for reason in inner.reasons.get(name.removeprefix(f"{part}."), ())}
            groups.append(
                GroupInfo(
                    f"{part}: {kind}" if part else kind,
                    settings,
                    multipliers,
                    members,
                    sum(parameter.numel() for parameter in group["params"]),
                    sorted(reasons),
                )
            )
    return groups


def format_setting(name: str, value: Any) -> str:
    """Formats a setting of a parameter group, whose value may be None."""
    return f"{name} {f'{value:g}' if isinstance(value, (int, float)) else value}"


def explain_params(groups: Groups) -> str:
    """Formats the settings, the size, the origin and the first parameters of each parameter group as text."""
    total = sum(group.size for group in groups.groups)
    tensors = sum(len(group.names) for group in groups.groups)
    lines = [
        f"{pluralize(tensors, 'tensor')}, {total:,} elements, {pluralize(len(groups.groups), 'group')}; {groups.model}"
    ]
    for number, group in enumerate(groups.groups):
        settings = ", ".join(
            format_setting(name, value) + (f" (x{group.multipliers[name]:g})" if name in group.multipliers else "")
            for name, value in group.settings.items()
        )
        lines += [
            "",
            f"group {number}  {group.optimizer}  {settings}",
            f"  {pluralize(len(group.names), 'tensor')}, {group.size:,} elements",
            f"  set by {', '.join(group.reasons) or 'the optimizer only'}",
            f"  {list_names(group.names, _MAX_NAMES)}",
        ]
    if groups.frozen:
        lines += ["", f"frozen: {pluralize(len(groups.frozen), 'tensor')}: {list_names(groups.frozen, _MAX_NAMES)}"]
    return "\n".join(lines) + "\n"


class Track(NamedTuple):
    """The values of an optimizer setting over a run, and the parameters that these values apply to."""

    field: str  # "lr", "momentum" or "weight_decay"
    values: list[float]  # one per iteration in `Schedule.iters`
    parameters: list[str]  # the names of the parameters

    @property
    def moves(self) -> bool:
        """Whether the value changes during the run."""
        return any(value != self.values[0] for value in self.values)


class Schedule(NamedTuple):
    """The values of optimizer settings over a run."""

    length: int  # the iterations of the run
    iters: list[int]  # the sampled iterations, counted from 0
    model: str
    tracks: list[Track]  # sorted by field; within a field, tracks with the most parameters come first
    not_simulated: list[str]  # the types of first-generation policies and of schedules that monitor a metric

    def shown(self, field: str) -> tuple[list[Track], list[Track]]:
        """Returns two lists of tracks for a field: the tracks that change during the run, and the constant tracks."""
        tracks = [track for track in self.tracks if track.field == field]
        return [track for track in tracks if track.moves], [track for track in tracks if not track.moves]


def schedule_of(plan: RunPlan) -> Schedule:
    """Simulates the schedules of a run and returns the optimizer settings.

    For a run of more than 512 iterations, returns the settings only at sampled iterations, and around the highest and
    lowest values.

    Args:
        plan: The plan of the run.

    Raises:
        FootplateError: A component cannot be built, or the run is epoch-based and the epoch length is unknown.
    """
    with located(plan.cfg):
        model = build_alone(plan)
        per_epoch, why = find_epoch_length(plan)
        hints = [*([why] if why else []), "Without the data, call footplate.tools.simulation.simulate(epoch_length=N)."]
        _, total = run_length(plan["train_cfg"] or {}, per_epoch, hints)
        step = max(1, -(-total // _POINTS))
        iters = sorted({*range(0, total, step), *_round_iterations(total)})
        tracks, ignored = _tracks(plan, model, per_epoch, iters)
        if step > 1:
            # The exact extremes are close to the extremes of the sampled iterations.
            near = {iters[place] for place in _extremes(tracks)}
            close = (range(max(at - step, 0), min(at + step, total)) for at in near)
            iters = sorted(set(iters).union(*close))
            tracks, ignored = _tracks(plan, model, per_epoch, iters)
        return Schedule(total, iters, f"model {name_of(plan['model'])}", tracks, ignored)


def explain_schedule(schedule: Schedule) -> str:
    """Formats a plot and a table of each optimizer setting that changes, as text of at most 72 columns."""
    lines = [f"schedule of {schedule.length} iterations, counted from 0; {schedule.model}", ""]
    for field in FIELDS:
        moving, constant = schedule.shown(field)
        if moving:
            names = [f"{field} {number}" for number in range(1, len(moving) + 1)] if moving[1:] else [field]
            shown = moving[:_MAX_TRACKS]
            lines += [f"{name}: {list_names(track.parameters, 1)}" for name, track in zip(names, moving, strict=True)]
            figure = plotille.Figure()
            figure.width, figure.height, figure.with_colors = _WIDTH, _HEIGHT, False
            figure.x_label, figure.y_label = "iteration", field
            figure.register_label_formatter(
                float, lambda value, chars, delta, left=False: f"{value:{'<' if left else '>'}{chars}.4g}"
            )
            figure.origin = False
            values = [value for track in shown for value in track.values]
            figure.set_x_limits(0, schedule.length)
            figure.set_y_limits(min(values), max(values))
            for track in shown:
                figure.plot(schedule.iters, track.values)
            lines += ["", *figure.show().splitlines()]
            lines += ["", *_table(schedule, names[:_MAX_TRACKS], shown), ""]
        span = "at the start" if schedule.not_simulated else "throughout"
        lines += [f"{field} {track.values[0]:g} {span}: {list_names(track.parameters, 1)}" for track in constant]
    lines += [f"not simulated: {kind}, which changes the values during the run" for kind in schedule.not_simulated]
    return "\n".join(lines).rstrip("\n") + "\n"


def _tracks(plan: RunPlan, model: nn.Module, per_epoch: int | None, iters: list[int]) -> tuple[list[Track], list[str]]:
    tracks = []
    trajectories, ignored = simulate_and_list_ignored(plan.arguments, model, per_epoch, iters)
    for field in FIELDS:
        members: dict[tuple[float, ...], list[str]] = {}
        for name, values in trajectories.items():
            if values[field][0] is not None:  # the optimizer has this field
                members.setdefault(tuple(values[field]), []).append(name)
        ordered = sorted(members.items(), key=lambda item: -len(item[1]))
        tracks += [Track(field, list(key), names) for key, names in ordered]
    return tracks, ignored


def _table(schedule: Schedule, names: Sequence[str], tracks: Sequence[Track]) -> list[str]:
    """Returns the lines of a table that shows the values of the tracks at selected iterations.

    The table contains iteration 0, multiples of a round number, the last iteration, and the iterations where each track
    first reaches its maximum and minimum.
    """
    extremes = _extremes(tracks)
    round_ones = set(_round_iterations(schedule.length))
    width = max(_DIGITS, *map(len, names))
    lines = ["  iteration  " + "  ".join(f"{name:>{width}}" for name in names)]
    for place, at in enumerate(schedule.iters):
        if at in round_ones or place in extremes:
            lines.append(f"  {at:>9}  " + "  ".join(f"{track.values[place]:>{width}.6g}" for track in tracks))
    return lines


def _extremes(tracks: Sequence[Track]) -> set[int]:
    """Returns the indices where each track that changes first reaches its maximum and its minimum."""
    return {track.values.index(most(track.values)) for track in tracks if track.moves for most in (max, min)}


def _round_iterations(length: int) -> list[int]:
    """Returns the first and the last iteration, and the multiples of a number of one significant digit between them."""
    step = max(1, int(float(f"{length / _ROWS:.0e}")))
    return [*range(0, length - 1, step), length - 1]
