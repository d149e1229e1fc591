"""`footplate plan`."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from footplate.cli.options import add_overrides, choose_work_dir, read_config
from footplate.cli.streams import say

if TYPE_CHECKING:
    from footplate.tools.plan.parts import Cluster, Parts
    from footplate.tools.plan.prediction import Prediction

_GIGABIT = 1e9 / 8


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "plan",
        help="predict a run on more devices than there are here",
        description="Measure the parts of a few steps here and predict from them step time, scaling efficiency, memory "
        "per device and checkpoint time on other machines, of the same devices. Nothing is left.",
    )
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a config file or the name of a recipe")
    add_overrides(parser)
    parser.add_argument("--nodes", metavar="N", type=int, default=1, help="machines: 1")
    parser.add_argument("--per-node", metavar="N", type=int, default=1, help="devices of each: 1")
    parser.add_argument(
        "--bandwidth", metavar="GBIT", type=float, default=100.0, help="Gbit/s that a machine exchanges: 100"
    )
    parser.add_argument(
        "--inner-bandwidth", metavar="GBIT", type=float, default=2400.0, help="Gbit/s between its devices: 2400"
    )
    parser.add_argument("--latency", metavar="US", type=float, default=10.0, help="microseconds of a message: 10")
    parser.add_argument(
        "--sharded", action="store_true", help="weights and optimizer shared out rather than replicated"
    )
    parser.add_argument("--steps", metavar="N", type=int, default=20, help="steps that are measured: 20")
    parser.add_argument("--parts", metavar="FILE", help="parts that were measured before, perhaps elsewhere")
    parser.add_argument("--save-parts", metavar="FILE", help="write what was measured, for --parts")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--formulas", action="store_true", help="the formulas and their sources instead")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the predictions, or the formulas."""
    if arguments.formulas:
        from footplate.tools.plan.formulas import describe_formulas

        say(describe_formulas())
        return 0
    from footplate.tools.plan.prediction import predict_growth

    cluster = _cluster(arguments)
    parts = _parts(arguments)
    if arguments.save_parts:
        parts.write(arguments.save_parts)
    predictions = predict_growth(parts, cluster, sharded=arguments.sharded)
    if arguments.json:
        data = {
            "parts": dataclasses.asdict(parts),
            "cluster": dataclasses.asdict(cluster),
            "predictions": [each._asdict() for each in predictions],
        }
        say(json.dumps(data, indent=1) + "\n")
    else:
        say(_told(parts, cluster, predictions))
    return 0


def _cluster(arguments: argparse.Namespace) -> "Cluster":
    from footplate.checks import check_count
    from footplate.errors import ArgumentError
    from footplate.tools.plan.parts import Cluster

    check_count("--nodes", arguments.nodes)
    check_count("--per-node", arguments.per_node)
    for name in ("bandwidth", "inner_bandwidth"):
        if not getattr(arguments, name) > 0:
            raise ArgumentError(f"--{name.replace('_', '-')} must be above 0", found=getattr(arguments, name))
    return Cluster(
        nodes=arguments.nodes,
        per_node=arguments.per_node,
        bandwidth=arguments.bandwidth * _GIGABIT,
        inner_bandwidth=arguments.inner_bandwidth * _GIGABIT,
        latency=arguments.latency * 1e-6,
    )


def _parts(arguments: argparse.Namespace) -> "Parts":
    from footplate.errors import ArgumentError
    from footplate.tools.plan.parts import Parts

    if arguments.parts:
        return Parts.read(arguments.parts)
    if arguments.config is None:
        raise ArgumentError("a plan needs a config to measure, or --parts")
    from footplate.engine.sections import check_config
    from footplate.tools.plan.measuring import measure

    cfg = read_config(arguments)
    choose_work_dir(cfg, None)
    return measure(check_config(cfg), steps=arguments.steps)


def _told(parts: "Parts", cluster: "Cluster", predictions: "list[Prediction]") -> str:
    from footplate.tools.plan.prediction import as_table, described

    rows = as_table(predictions)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*described(parts, cluster), "", *table]) + "\n"
