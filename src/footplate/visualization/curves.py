"""The curves of a run: losses, metrics and learning rate over the iterations, from what the local writer wrote."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from footplate.errors import DataError
from footplate.storage import commit_picture
from footplate.visualization.plotting import Curve, Panel, plot

_POSITIONS = frozenset({"step", "iter", "epoch"})
_UNPLOTTED = frozenset({"time", "data_time", "memory", "eta"})
_MOST_CURVES = 8
_Scalars = Sequence[Mapping[str, Any]]


def draw_curves(scalars_path: str, out_path: str, *, epoch_length: int = 1) -> None:
    """Draws losses, metrics and learning rate as a PNG; a last line that was not finished is left out.

    Args:
        scalars_path: A file with one JSON object a line, `vis_data/scalars.json`.
        out_path: Where the picture goes.
        epoch_length: The iterations between two steps of a validation: those of an epoch if validations are written
            with the epoch as their step.

    Raises:
        DataError: The file holds no scalar to draw.
    """
    scalars = _read(scalars_path)
    # A line of training knows the learning rate; the others are of a validation.
    trained = [line for line in scalars if "lr" in line]
    validated = [{**line, "step": line.get("step", 0) * epoch_length} for line in scalars if "lr" not in line]
    curves, rates = _curves(trained), _curves(trained, names=["lr"])
    losses = [curve for curve in curves if "loss" in curve.label]
    others = [curve for curve in curves if "loss" not in curve.label and curve.label not in ("lr", "base_lr")]
    panels = [
        Panel("loss", losses),
        *_by_magnitude("training", [curve for curve in others if curve.label != "grad_norm"]),
        *(panel for name, metrics in _by_prefix(_curves(validated)) for panel in _by_magnitude(name, metrics)),
        Panel("gradient norm", [curve for curve in others if curve.label == "grad_norm"], small=True),
        Panel("learning rate", rates, small=True),
    ]
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        raise DataError("there is no scalar to draw", found=scalars_path)
    commit_picture(out_path, plot(panels, "iteration" if any("iter" in line for line in trained) else "step"))


def _read(path: str) -> _Scalars:
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    scalars = []
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            if 1 < number == len(lines) and not line.endswith("\n"):
                break  # the process died while it wrote
            raise _no_scalars(path) from error
        if not isinstance(found, dict):
            raise _no_scalars(path)
        scalars.append(found)
    return scalars


def _no_scalars(path: str) -> DataError:
    return DataError(f"'{os.path.basename(path)}' is not one JSON object a line", found=path)


def _curves(lines: _Scalars, names: Iterable[str] | None = None) -> list[Curve]:
    """One curve for each name, in the order in which they appear, the lines' `step` being x."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            plain = name.rpartition("/")[2] not in _POSITIONS | _UNPLOTTED
            if _is_number(value) and plain and (names is None or name in names):
                found.setdefault(name, []).append((float(line.get("step", 0)), float(value)))
    return [Curve(name, points) for name, points in found.items()]


def _by_prefix(curves: list[Curve]) -> list[tuple[str, list[Curve]]]:
    """Groups metrics by what stands before the first slash, the name of a validation set or a metric's prefix."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        whole = curve.label.partition(".")[0]  # names of classes hold slashes, too
        prefix, slash, _ = whole.partition("/")
        groups.setdefault(f"validation: {prefix}" if slash else "validation", []).append(curve)
    return list(groups.items())


def _by_magnitude(title: str, curves: list[Curve]) -> list[Panel]:
    """Shares and percentages are told apart: each gets a panel of its own."""
    shares = [curve for curve in curves if max(abs(y) for _, y in curve.points) <= 1]
    larger = [curve for curve in curves if curve not in shares]
    return [Panel(title + _left_out(group), group[:_MOST_CURVES]) for group in (larger, shares)]


def _left_out(group: list[Curve]) -> str:
    return f" ({_MOST_CURVES} of {len(group)})" if len(group) > _MOST_CURVES else ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
