"""The command `footplate plan`."""

import argparse
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_no_patches, add_overrides, read_config, set_work_dir
from footplate.cli.output import print_result

if TYPE_CHECKING:
    from footplate.tools.plan_measurements import Measurements

_GIGABIT = 1e9 / 8
_MAX_NODES = _MAX_PER_NODE = 10**6


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "plan",
        help="predict a run on more devices than this machine has",
        description="Measure a few training steps on this machine. From these results, predict the step time, scaling "
        "efficiency, memory per device and checkpoint time on other machines with the same devices. Leaves no files.",
        epilog="Example: footplate plan config.py --nodes 4 --per-node 8 --bandwidth 200",
    )
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a config file or the name of a recipe")
    add_overrides(parser)
    parser.add_argument("--nodes", metavar="N", type=int, default=1, help="the number of machines (default: 1)")
    parser.add_argument("--per-node", metavar="N", type=int, default=1, help="devices per machine (default: 1)")
    parser.add_argument(
        "--bandwidth", metavar="GBIT", type=float, default=100.0, help="Gbit/s between machines (default: 100)"
    )
    parser.add_argument(
        "--inner-bandwidth",
        metavar="GBIT",
        type=float,
        default=2400.0,
        help="Gbit/s between the devices of a machine (default: 2400)",
    )
    parser.add_argument(
        "--latency", metavar="US", type=float, default=10.0, help="microseconds per message (default: 10)"
    )
    parser.add_argument(
        "--sharded", action="store_true", help="shard the weights and the optimizer state instead of replicating them"
    )
    parser.add_argument(
        "--shards",
        metavar="N",
        type=int,
        help="with --sharded: the number of devices that share a replica, as in FullyShard's mesh (default: all)",
    )
    parser.add_argument(
        "--tensor-parallel",
        metavar="N",
        type=int,
        help="with --sharded: the number of devices that share each layer (default: 1). The layers are selected by "
        "`model_wrapper_cfg.tensor_parallel` in the config, or by the model's own plan",
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, default=20, help="the number of steps to measure (default: 20)"
    )
    parser.add_argument("--parts", metavar="FILE", help="use saved measurements, which may come from another machine")
    parser.add_argument("--save-parts", metavar="FILE", help="save the measurements for --parts")
    parser.add_argument("--formulas", action="store_true", help="show the formulas and their sources instead")
    add_no_patches(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the predictions, or the formulas."""
    from footplate.checks import check_count, check_number
    from footplate.errors import ArgumentError
    from footplate.tools.plan_prediction import describe_formulas, describe_plan, group_size, predict_growth

    if arguments.formulas:
        print_result(arguments, {"formulas": describe_formulas()}, describe_formulas())
        return 0
    check_count("--nodes", arguments.nodes, most=_MAX_NODES)
    check_count("--per-node", arguments.per_node, most=_MAX_PER_NODE)
    for name in ("bandwidth", "inner_bandwidth"):
        check_number(f"--{name.replace('_', '-')}", getattr(arguments, name), above=0)
    check_number("--latency", arguments.latency, least=0)
    _check_groups(arguments)
    if not arguments.parts and arguments.config is None:
        raise ArgumentError("a plan needs measurements", notes=["Pass a config to measure, or --parts FILE."])
    from footplate.tools.plan_measurements import Cluster  # after the checks, because it imports torch

    cluster = Cluster(
        nodes=arguments.nodes,
        per_node=arguments.per_node,
        bandwidth=arguments.bandwidth * _GIGABIT,
        inner_bandwidth=arguments.inner_bandwidth * _GIGABIT,
        latency=arguments.latency * 1e-6,
    )
    measured = _measure(arguments)
    if (arguments.tensor_parallel or 1) > 1 and not measured.layer_messages:
        raise ArgumentError(
            "the measurements do not contain the layers that --tensor-parallel splits",
            key="--parts",
            notes=["Measure the config again with --tensor-parallel and --save-parts."],
        )
    if measured.layer_divisor % (arguments.tensor_parallel or 1):
        raise ArgumentError(
            "the sizes of the measured layers are not divisible by --tensor-parallel",
            key="--tensor-parallel",
            found=arguments.tensor_parallel,
            notes=[f"Use a divisor of {measured.layer_divisor}."],
        )
    if arguments.save_parts:
        measured.write(arguments.save_parts)
    predictions = predict_growth(
        measured,
        cluster,
        sharded=arguments.sharded,
        shards=arguments.shards,
        tensor_parallel=arguments.tensor_parallel or 1,
    )
    data = {"parts": measured, "cluster": cluster, "predictions": predictions}
    group = group_size(arguments.shards, arguments.tensor_parallel or 1)
    print_result(arguments, data, describe_plan(measured, cluster, predictions, group=group))
    return 0


def _check_groups(arguments: argparse.Namespace) -> None:
    """Checks that the devices can be split into groups as --tensor-parallel and --shards require."""
    from footplate.checks import check_count
    from footplate.errors import ArgumentError

    number, units = arguments.nodes * arguments.per_node, "devices"
    for option, size in (("--tensor-parallel", arguments.tensor_parallel), ("--shards", arguments.shards)):
        if size is None:
            continue
        if not arguments.sharded:
            raise ArgumentError(f"{option} needs --sharded", key=option, found=size)
        check_count(option, size)
        if number % size:
            raise ArgumentError(f"{option} must divide the {number} {units}", key=option, found=size)
        number, units = number // size, "groups of devices that share layers"


def _measure(arguments: argparse.Namespace) -> "Measurements":
    """Reads saved measurements, or measures the config on this machine."""
    from footplate.distributed.tensor_parallel import parse_tensor_parallel
    from footplate.engine.run_config import check_config
    from footplate.error_context import at_key
    from footplate.tools.plan_measurements import Measurements, measure

    if arguments.parts:
        return Measurements.read(arguments.parts)
    cfg = read_config(arguments)
    set_work_dir(cfg, None)
    with at_key("model_wrapper_cfg.tensor_parallel"):
        layers = parse_tensor_parallel((cfg.get("model_wrapper_cfg") or {}).get("tensor_parallel"))
    if arguments.tensor_parallel:
        layers = layers._replace(size=arguments.tensor_parallel)
    return measure(check_config(cfg, built_next=True), steps=arguments.steps, tensor_parallel=layers)
