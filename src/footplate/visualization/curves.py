"""The curves of a run: losses, metrics and learning rate over the iterations, from what the local writer wrote."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from footplate.errors import DataError
from footplate.visualization.plotting import Curve, Panel, plot

_POSITIONS = frozenset({"step", "iter", "epoch"})
_UNPLOTTED = frozenset({"time", "data_time", "memory", "eta"})
_MOST_CURVES = 8
_Scalars = Sequence[Mapping[str, Any]]


def draw_curves(scalars_path: str, out_path: str) -> None:
    """Draws losses, metrics and learning rate as a PNG; a last line that was not finished is left out.

    Args:
        scalars_path: A file with one JSON object a line, `vis_data/scalars.json`.
        out_path: Where the picture goes.

    Raises:
        DataError: The file holds no scalar to draw.
    """
    scalars = _read(scalars_path)
    # A line of training knows the learning rate; the others are of a validation.
    trained = [line for line in scalars if "lr" in line]
    validated = [line for line in scalars if "lr" not in line]
    curves, rates = _curves(trained), _curves(trained, names=["lr"])
    losses = [curve for curve in curves if "loss" in curve.label]
    others = [curve for curve in curves if "loss" not in curve.label and curve.label not in ("lr", "base_lr")]
    metrics = _curves(validated)
    panels = [
        Panel("loss", losses),
        *_by_magnitude("training", [curve for curve in others if curve.label != "grad_norm"]),
        *_by_magnitude("validation", metrics),
        Panel("gradient norm", [curve for curve in others if curve.label == "grad_norm"], small=True),
        Panel("learning rate", rates, small=True),
    ]
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        raise DataError("there is no scalar to draw", found=scalars_path)
    plot(panels, "iteration" if any("iter" in line for line in trained) else "step").save(out_path)


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


def _by_magnitude(title: str, curves: list[Curve]) -> list[Panel]:
    """Shares and percentages are told apart: each gets a panel of its own."""
    shares = [curve for curve in curves if max(abs(y) for _, y in curve.points) <= 1]
    larger = [curve for curve in curves if curve not in shares]
    return [Panel(title, group[:_MOST_CURVES]) for group in (larger, shares)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
