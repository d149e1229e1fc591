"""Plots the curves of a run from its scalars file: losses, metrics and learning rate over the iterations."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from footplate.errors import DataError
from footplate.records.scalar_names import metric_of_label
from footplate.storage import commit_image
from footplate.visualization.plotting import Curve, Panel, plot

_POSITIONS = frozenset({"step", "iter", "epoch"})
_UNPLOTTED = frozenset({"time", "data_time", "memory", "eta"})
_MOST_CURVES = 8
_LONGEST_NOTE = 56  # characters that fit next to a title
_OF_CLASS = re.compile(r"(?P<quantity>[^.]+)\.(?P<name>.+)|(?P<class>.+)_(?P<measure>precision)")  # `IoU.bag`
_Scalars = Sequence[Mapping[str, Any]]


def draw_curves(scalars_path: str, out_path: str, *, epoch_length: int = 1) -> None:
    """Plots losses, metrics and learning rate as an image file; skips an incomplete last line.

    Args:
        scalars_path: A file with one JSON object per line, such as `vis_data/scalars.json`.
        out_path: The path of the image.
        epoch_length: The iterations per validation step: the length of an epoch if the step of a validation is its
            epoch, otherwise 1.

    Raises:
        DataError: The file has no scalars to draw.
    """
    scalars = _read(scalars_path)
    # Only training lines contain the learning rate; all others are from validations.
    trained = [line for line in scalars if "lr" in line]
    validated = [{**line, "step": line.get("step", 0) * epoch_length} for line in scalars if "lr" not in line]
    curves = _curves(trained)
    losses = [curve for curve in curves if "loss" in curve.label]
    norms = [curve for curve in curves if curve.label.partition("/")[0] == "grad_norm"]
    others = [curve for curve in curves if curve not in losses + norms and curve.label not in ("lr", "base_lr")]
    panels = [
        _panel("loss", losses),
        *_by_magnitude("training", others),
        *(panel for name, metrics in _by_prefix(_curves(validated)) for panel in _of_validation(name, metrics)),
        _panel("gradient norm", norms, small=True),
        Panel("learning rate", _curves(trained, names=["lr"]), small=True),
    ]
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        raise DataError("there is no scalar to draw", found=scalars_path)
    commit_image(out_path, plot(panels, "iteration" if any("iter" in line for line in trained) else "step"))


def _read(path: str) -> _Scalars:
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    scalars = []
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            if 1 < number == len(lines) and not line.endswith("\n"):
                break  # the process died while writing
            raise _no_scalars(path) from error
        if not isinstance(found, dict):
            raise _no_scalars(path)
        scalars.append(found)
    return scalars


def _no_scalars(path: str) -> DataError:
    return DataError(f"'{os.path.basename(path)}' is not one JSON object a line", found=path)


def _curves(lines: _Scalars, names: Iterable[str] | None = None) -> list[Curve]:
    """Returns one curve per name, in the order of first appearance; x is the `step` of a line."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            plain = name.rpartition("/")[2] not in _POSITIONS | _UNPLOTTED
            if _is_number(value) and plain and (names is None or name in names):
                found.setdefault(name, []).append((float(line.get("step", 0)), float(value)))
    return [Curve(name, points) for name, points in found.items()]


def _by_prefix(curves: list[Curve]) -> list[tuple[str, list[Curve]]]:
    """Groups metrics by the text before the first slash: the name of a validation set or a metric prefix."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        label = metric_of_label(curve.label)
        whole = label.partition(".")[0]  # class names may contain slashes
        prefix, slash, _ = whole.partition("/")
        groups.setdefault(f"validation: {prefix}" if slash else "validation", []).append(curve._replace(label=label))
    return list(groups.items())


def _of_validation(title: str, curves: list[Curve]) -> list[Panel]:
    """Returns the panels of a validation set: summary metrics, losses, and the classes with the lowest values."""
    losses = [curve for curve in curves if "loss" in curve.label]
    summaries, classes = [], dict[str, list[Curve]]()
    for curve in curves:
        if curve in losses:
            continue
        if (found := _OF_CLASS.fullmatch(curve.label)) is None:
            summaries.append(curve)
        else:
            quantity = found["quantity"] or found["measure"]
            classes.setdefault(quantity, []).append(curve._replace(label=found["name"] or found["class"]))
    panels = [*_by_magnitude(title, summaries), _panel(f"{title}: loss", losses)]
    if classes:
        (quantity, shown), *others = classes.items()
        weakest = sorted(shown, key=lambda curve: curve.points[-1][1])
        unshown = [f"{name} of classes" for name, _ in others]
        which = "the weakest classes" if len(weakest) > _MOST_CURVES else "classes"
        panels.append(_panel(f"{title}: {quantity.rpartition('/')[2]} of {which}", weakest, unshown=unshown))
    return panels


def _by_magnitude(title: str, curves: list[Curve]) -> list[Panel]:
    """Returns one panel per scale, so that fractions, percentages and larger values are not mixed."""
    groups: dict[str, list[Curve]] = {"up to 100": [], "up to 1": [], "above 100": []}
    for curve in curves:
        most = max(abs(y) for _, y in curve.points)
        groups["up to 1" if most <= 1 else "up to 100" if most <= 100 else "above 100"].append(curve)
    several = sum(map(bool, groups.values())) > 1
    return [_panel(f"{title}, {scale}" if several else title, group) for scale, group in groups.items()]


def _panel(title: str, curves: list[Curve], *, small: bool = False, unshown: Sequence[str] = ()) -> Panel:
    """Returns a panel with the first curves and a note about the others.

    A total comes before its parts, such as `loss` before `decode.loss_ce` and `aux.loss_ce`.
    """
    ordered = sorted(curves, key=lambda curve: (curve.label != "loss", "loss" in curve.label and "." in curve.label))
    left_out = [*(curve.label for curve in ordered[_MOST_CURVES:]), *unshown]
    count = f" ({_MOST_CURVES} of {len(curves)})" if len(curves) > _MOST_CURVES else ""
    return Panel(title + count, ordered[:_MOST_CURVES], small, _note(left_out))


def _note(left_out: Sequence[str]) -> str:
    named: list[str] = []
    for name in left_out:
        if named and len(", ".join([*named, name])) > _LONGEST_NOTE:
            return f"not drawn: {', '.join(named)} and {len(left_out) - len(named)} more"
        named.append(name if len(name) <= _LONGEST_NOTE else f"{name[:_LONGEST_NOTE]}…")
    return f"not drawn: {', '.join(named)}" if named else ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
