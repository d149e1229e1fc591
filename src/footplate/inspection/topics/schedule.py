"""Learning rate, momentum and weight decay over a run, as text, picture and data."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import plotille  # type: ignore[import-untyped, unused-ignore]
from PIL import Image
from torch import nn

from footplate.config import Config
from footplate.engine import simulate
from footplate.engine.simulation import FIELDS
from footplate.errors import ArgumentError, located
from footplate.inspection.topics.parts import build_model, epoch_length, matching, prepare, without_compiler
from footplate.visualization.plotting import Curve, Panel, plot

_POINTS = 512
_LONGEST = 100_000_000  # iterations that can be driven in a minute or two
_ROWS = 11
_WIDTH, _HEIGHT = 64, 12
_MOST_CURVES = 6


class Track(NamedTuple):
    """One field of the parameters that share its values.

    Attributes:
        field: "lr", "momentum" or "weight_decay".
        values: One value for each of the schedule's iterations; None throughout where the optimizer has no such field.
        parameters: The names of the parameters.
    """

    field: str
    values: list[float | None]
    parameters: list[str]

    @property
    def moves(self) -> bool:
        """Whether the values differ."""
        return any(value != self.values[0] for value in self.values)


class Schedule(NamedTuple):
    """The settings of an optimizer over a run.

    Attributes:
        length: The iterations of the run.
        iters: Those that are shown, counted from 0.
        tracks: The fields, those of most parameters first.
        model: What the parameters are of, in words.
    """

    length: int
    iters: list[int]
    tracks: list[Track]
    model: str


@without_compiler()
def schedule_of(cfg: Config, *, other: Config | None = None, length_of_epoch: int | None = None) -> Schedule:
    """Simulates a run's schedules.

    Args:
        cfg: A config of either generation.
        other: A config whose model is to be taken.
        length_of_epoch: The iterations of an epoch, where the training data cannot tell.

    Raises:
        FootplateError: A part cannot be built, or the length of an epoch is not known where the run counts epochs.
    """
    cfg = prepare(cfg)
    model, words = build_model(cfg, other)
    with located(cfg), matching(model):
        per_epoch = epoch_length(cfg, length_of_epoch)
        total = _length(cfg, per_epoch)
        if total > _LONGEST:
            raise ArgumentError(
                f"a run of more than {_LONGEST:,} iterations is not simulated", key="train_cfg", found=total
            )
        step = max(1, -(-total // _POINTS))
        iters = sorted({*range(0, total, step), total - 1})
        return Schedule(total, iters, list(_tracks(cfg, model, per_epoch, iters)), words)


def explain_schedule(schedule: Schedule) -> str:
    """Returns a plot of each field that moves and a table of its values, as text."""
    lines = [f"schedule of {schedule.length} iterations; {schedule.model}"]
    for field in FIELDS:
        tracks = [track for track in schedule.tracks if track.field == field and track.values[0] is not None]
        moving = [track for track in tracks if track.moves]
        if moving:
            lines += ["", *_terminal_plot(schedule.iters, moving), "", *_table(schedule, moving)]
        for track in tracks:
            if not track.moves:
                lines.append(f"{field} {track.values[0]:g} throughout: {_who(track)}")
    return "\n".join(lines) + "\n"


def plot_schedule(schedule: Schedule) -> Image.Image:
    """Returns a picture with a panel for each field that moves, or for all where none does."""
    panels = []
    for field in FIELDS:
        tracks = [track for track in schedule.tracks if track.field == field and track.values[0] is not None]
        moving = [track for track in tracks if track.moves][:_MOST_CURVES]
        if moving or (tracks and field == "lr"):
            curves = [Curve(_who(track, short=True), _points(schedule.iters, track)) for track in moving or tracks[:1]]
            panels.append(Panel(field.replace("_", " "), curves))
    return plot(panels, "iteration")


def schedule_as_data(schedule: Schedule) -> dict[str, Any]:
    """Returns the schedule as data."""
    tracks = [track._asdict() for track in schedule.tracks]
    return {"length": schedule.length, "iters": schedule.iters, "model": schedule.model, "tracks": tracks}


def _length(cfg: Config, per_epoch: int | None) -> int:
    train_cfg = cfg.get("train_cfg") or {}
    if train_cfg.get("max_iters") is not None:
        return int(train_cfg["max_iters"])
    if train_cfg.get("max_epochs") is None:
        raise ArgumentError("the config does not say how long it trains", key="train_cfg", found=cfg.get("train_cfg"))
    if not per_epoch:
        raise ArgumentError(
            "the training data cannot be read here, and the run counts epochs",
            key="train_dataloader",
            notes=["say how many iterations an epoch has: --epoch-length N"],
        )
    return int(train_cfg["max_epochs"]) * per_epoch


def _tracks(cfg: Config, model: nn.Module, per_epoch: int | None, iters: list[int]) -> Iterable[Track]:
    found = simulate(cfg, model, epoch_length=per_epoch, iters=iters)
    for field in FIELDS:
        members: dict[tuple[float | None, ...], list[str]] = {}
        shared: dict[int, tuple[float | None, ...]] = {}  # parameters of one group share their lists
        for name, values in found.items():
            key = shared.setdefault(id(values[field]), tuple(values[field]))
            members.setdefault(key, []).append(name)
        for key, names in sorted(members.items(), key=lambda item: -len(item[1])):
            yield Track(field, list(key), names)


def _terminal_plot(iters: list[int], tracks: list[Track]) -> list[str]:
    figure = plotille.Figure()
    figure.width, figure.height, figure.origin, figure.with_colors = _WIDTH, _HEIGHT, False, False
    figure.set_x_limits(min_=0, max_=max(iters[-1], 1))
    top = max(value for track in tracks for value in track.values if value is not None)
    figure.set_y_limits(min_=0, max_=top or 1)
    figure.x_label, figure.y_label = "iteration", tracks[0].field
    figure.register_label_formatter(float, lambda value, chars, delta, left=False: _label(value, chars, left))
    for track in tracks[:_MOST_CURVES]:
        figure.plot(iters, track.values)
    return [line.rstrip() for line in figure.show(legend=False).splitlines() if line.strip()]


def _label(value: float, chars: int, left: bool) -> str:
    text = f"{value:.4g}"
    return text.ljust(chars) if left else text.rjust(chars)


def _table(schedule: Schedule, tracks: list[Track]) -> list[str]:
    places = sorted({round(part * (len(schedule.iters) - 1) / (_ROWS - 1)) for part in range(_ROWS)})
    names = [_who(track, short=True) for track in tracks[:_MOST_CURVES]]
    lines = ["  iteration  " + "  ".join(f"{name:>12}" for name in names)]
    for place in places:
        values = "  ".join(f"{track.values[place]:>12.6g}" for track in tracks[:_MOST_CURVES])
        lines.append(f"  {schedule.iters[place]:>9}  {values}")
    hidden = len(tracks) - _MOST_CURVES
    return [*lines, *([f"  and {hidden} more: --json has them"] if hidden > 0 else [])]


def _who(track: Track, *, short: bool = False) -> str:
    count = len(track.parameters)
    words = f"{count} tensor{'s' if count != 1 else ''}"
    return words if short else f"{words}, {track.parameters[0]}{' ...' if count > 1 else ''}"


def _points(iters: list[int], track: Track) -> list[tuple[float, float]]:
    return [(float(at), float(value)) for at, value in zip(iters, track.values, strict=True) if value is not None]
