"""`footplate replay`."""

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.cli.options import add_overrides, override, read_config
from footplate.cli.streams import say
from footplate.messages import list_names, one_line

if TYPE_CHECKING:
    from footplate.tools.layers import Reading
    from footplate.tools.replay import Replay

_SHORT = 12  # tables with at most this many rows are shown in full
_BEFORE = 5


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="look layer by layer at the iteration that stopped a run",
        description="Go once more to the iteration at which a run stopped at NaN, from the capture that it left, and "
        "look at it layer by layer. Exits 1 if all is finite there. Nothing is written.",
    )
    parser.add_argument("capture", metavar="FILE", help="what the run left: nonfinite_iter_7.capture, or its folder")
    parser.add_argument("--config", metavar="CONFIG", help="the config of the run; by default the one beside FILE")
    parser.add_argument("--iteration", metavar="N", type=int, help="another iteration, counted from 1")
    parser.add_argument(
        "--all", action="store_true", help="every layer, not only the first that is not finite and those before it"
    )
    add_overrides(parser)
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints tables of the layers and the first non-finite values."""
    from footplate.config import read_recorded
    from footplate.tools.replay import config_beside, find_capture, read_facts, replay

    arguments.capture = find_capture(arguments.capture)
    facts = read_facts(arguments.capture)
    say(f"the run stopped: {one_line(facts['message'])}\n")
    if arguments.config is None:  # a recorded config is read as data; one that the user names may execute code
        cfg = override(read_recorded(config_beside(arguments.capture)), arguments)
    else:
        cfg = read_config(arguments)
    found = replay(cfg, arguments.capture, iteration=arguments.iteration)
    say(describe(found, whole=arguments.all))
    return 0 if found.failed else 1


def describe(found: "Replay", *, whole: bool = False) -> str:
    """Returns the tables, in full or around the first non-finite layer, and the conclusions."""
    losses = ", ".join(f"{name} {value:g}" for name, value in found.losses.items())
    head = f"iteration {found.iteration}: {losses or 'no losses'}; learning rate {found.learning_rate:g}"
    lines = [f"{head}, {found.precision}", "", *_table("output of", found.outputs, whole=whole), ""]
    lines += [*_table("gradient of", found.gradients, whole=whole), ""] if found.gradients else []
    return "\n".join([*lines, *_verdict(found), ""])


def _table(title: str, readings: "Sequence[Reading]", *, whole: bool) -> list[str]:
    begin, end = (0, len(readings)) if whole else _worth_showing(readings)
    rows = [(title, "kind", "dtype", "shape", "finite", "min", "max")]
    rows += [
        (each.name, each.kind, each.dtype, "x".join(map(str, each.shape)) or "-", _finite(each), *_range(each))
        for each in readings[begin:end]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if begin:
        lines.insert(1, f"... {begin} before them, all finite; --all shows them")
    if end < len(readings):
        bad = sum(not each.finite for each in readings[end:])
        lines.append(f"... {len(readings) - end} behind them, {bad or 'none'} of those not finite; --all shows them")
    return lines


def _worth_showing(readings: "Sequence[Reading]") -> tuple[int, int]:
    """Returns the range of rows to show: up to the first non-finite layer, with a few before it."""
    if len(readings) <= _SHORT:
        return 0, len(readings)
    first = next((place for place, each in enumerate(readings) if not each.finite), None)
    return (0, _SHORT) if first is None else (max(first - _BEFORE, 0), first + 1)


def _finite(reading: "Reading") -> str:
    counts = ((reading.nans, "NaN"), (reading.infinities, "inf"))
    return ", ".join(f"{count} of {math.prod(reading.shape)} {name}" for count, name in counts if count) or "yes"


def _range(reading: "Reading") -> tuple[str, str]:
    return f"{reading.low:.4g}", f"{reading.high:.4g}"


def _verdict(found: "Replay") -> list[str]:
    elsewhere = [f"not as in the run, so that it may differ: {one_line(found.elsewhere)}"] if found.elsewhere else []
    if not found.failed:
        return [*elsewhere, f"all is finite in iteration {found.iteration}: the failure did not come again"]
    lines = [*elsewhere, *([f"stopped: {found.stopped}"] if found.stopped else [])]
    if found.weights_before:
        lines.append(f"weights were not finite before it: {list_names(found.weights_before, 1)}")
    lines += [*_about_outputs(found), *_about_gradients(found)]
    if found.weights_after and not found.weights_before:
        lines.append(f"weights are not finite behind it: {list_names(found.weights_after, 1)}")
    return lines


def _about_outputs(found: "Replay") -> list[str]:
    output = found.first_output
    if output is None:
        return ["every output of a module is finite"]
    return [f"first output that is not finite: {output.name} ({output.kind}), {_finite(output)}; {output.notes}"]


def _about_gradients(found: "Replay") -> list[str]:
    gradient = found.first_gradient
    if gradient is None:
        return ["every gradient is finite"] if found.gradients else []
    flow = next((each for each in found.flowing if not each.finite), None)
    where = f"; it came first through the output of {flow.name} ({flow.kind})" if flow is not None else ""
    return [f"first gradient that is not finite: {gradient.name}, {_finite(gradient)}{where}"]
