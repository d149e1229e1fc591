"""The commands that try a run before it starts: `footplate check`, `footplate plan` and `footplate profile`."""

import argparse
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_config, add_no_patches, add_overrides, read_config, set_work_dir
from footplate.cli.launching import add_launcher, start_processes
from footplate.cli.output import print_result, print_text
from footplate.messages import labeled, wrap_text

if TYPE_CHECKING:
    from footplate.tools.plan_measurements import Measurements

_GIGABIT = 1e9 / 8
_MAX_NODES = _MAX_PER_NODE = 10**6


def add_commands(subparsers: Any) -> None:
    """Adds the commands to the parser."""
    check = subparsers.add_parser(
        "check",
        help="try a run before it starts",
        description="Try a run on the real data: build everything, train two iterations, validate one batch, save and "
        "load. Then describe the run: parameter groups, speed, time, memory, schedule, metrics, hooks and warnings. "
        "Leaves no files.",
    )
    add_config(check)
    check.add_argument(
        "--work-dir", metavar="DIR", help="the work_dir of the run (default: work_dirs/<name of the config>)"
    )
    check.add_argument("--no-run", action="store_true", help="check only the config, without reading data or weights")
    add_launcher(check)
    add_no_patches(check)
    check.set_defaults(run=check_run)
    plan = subparsers.add_parser(
        "plan",
        help="predict a run on more devices than this machine has",
        description="Measure a few training steps on this machine. From these results, predict the step time, scaling "
        "efficiency, memory per device and checkpoint time on other machines with the same devices. Leaves no files.",
        epilog="Example: footplate plan config.py --nodes 4 --per-node 8 --bandwidth 200",
    )
    plan.add_argument("config", metavar="CONFIG", nargs="?", help="a config file or the name of a recipe")
    add_overrides(plan)
    plan.add_argument("--nodes", metavar="N", type=int, default=1, help="the number of machines (default: 1)")
    plan.add_argument("--per-node", metavar="N", type=int, default=1, help="devices per machine (default: 1)")
    plan.add_argument(
        "--bandwidth", metavar="GBIT", type=float, default=100.0, help="Gbit/s between machines (default: 100)"
    )
    plan.add_argument(
        "--inner-bandwidth",
        metavar="GBIT",
        type=float,
        default=2400.0,
        help="Gbit/s between the devices of a machine (default: 2400)",
    )
    plan.add_argument(
        "--latency", metavar="US", type=float, default=10.0, help="microseconds per message (default: 10)"
    )
    plan.add_argument(
        "--sharded", action="store_true", help="shard the weights and the optimizer state instead of replicating them"
    )
    plan.add_argument(
        "--shards",
        metavar="N",
        type=int,
        help="with --sharded: the number of devices that share a replica, as in FullyShard's mesh (default: all)",
    )
    plan.add_argument(
        "--tensor-parallel",
        metavar="N",
        type=int,
        help="with --sharded: the number of devices that share each layer (default: 1). The layers are selected by "
        "`model_wrapper_cfg.tensor_parallel` in the config, or by the model's own plan",
    )
    plan.add_argument("--steps", metavar="N", type=int, default=20, help="the number of steps to measure (default: 20)")
    plan.add_argument("--parts", metavar="FILE", help="use saved measurements, which may come from another machine")
    plan.add_argument("--save-parts", metavar="FILE", help="save the measurements for --parts")
    plan.add_argument("--formulas", action="store_true", help="show the formulas and their sources instead")
    add_no_patches(plan)
    plan.set_defaults(run=plan_run)
    profile = subparsers.add_parser(
        "profile",
        help="measure the parts of an iteration",
        description="Train a few iterations on real data. Show the time spent waiting for data, in the data "
        "preprocessor, in forward and backward pass, in the optimizer and in hooks, and suggest improvements. Leaves "
        "no files.",
        epilog="Example: footplate profile config.py --iters 50",
    )
    add_config(profile)
    profile.add_argument(
        "--iters", metavar="N", type=int, default=20, help="the number of iterations to measure (default: 20)"
    )
    add_launcher(profile)
    add_no_patches(profile)
    profile.set_defaults(run=profile_run)


def check_run(arguments: argparse.Namespace) -> int:
    """Checks a config with a short trial and prints the summary."""
    from footplate.cli.error_messages import user_frames
    from footplate.distributed import rank_from_environment
    from footplate.records.logger import collect_warnings
    from footplate.tools.automatic_batch_size import choose_batch_size, without_automatic_size
    from footplate.tools.check import check
    from footplate.tools.failing_module import ComponentError

    cfg = read_config(arguments)
    set_work_dir(cfg, arguments.work_dir)
    code = start_processes(arguments, cfg)
    if code is not None:
        return code
    with collect_warnings() as warnings:
        try:
            cfg, note = (without_automatic_size(cfg), "") if arguments.no_run else choose_batch_size(cfg)
            checked = check(cfg, run=not arguments.no_run)
        except ComponentError as error:
            arguments.progress = f"failed stage: {error.stage}"
            if error.__cause__ is not None and user_frames(error.__cause__):
                raise error.__cause__ from None  # shows the user's lines, as `train` does
            raise
        finally:
            if not rank_from_environment():
                print_text("".join(wrap_text(labeled("warning", each) + "\n") for each in warnings))
    if not rank_from_environment():
        data = {"warnings": checked.warnings, "loops": checked.loops, "measured": checked.measured}
        text = checked.text + (labeled("batch size", note) + "\n" if note else "")
        print_result(arguments, data, wrap_text(text))
    return 0


def plan_run(arguments: argparse.Namespace) -> int:
    """Prints the predictions, or the formulas."""
    from footplate.checks import check_count, check_number
    from footplate.errors import ArgumentError
    from footplate.tools.plan_prediction import Sharding, describe_formulas, describe_plan, predict_growth

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
    sharding = Sharding(arguments.shards, arguments.tensor_parallel or 1) if arguments.sharded else None
    predictions = predict_growth(measured, cluster, sharding)
    data = {"parts": measured, "cluster": cluster, "predictions": predictions}
    print_result(arguments, data, describe_plan(measured, cluster, predictions, sharding))
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
    from footplate.distributed.fully_shard import parse_tensor_parallel
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


def profile_run(arguments: argparse.Namespace) -> int:
    """Prints the profile."""
    from footplate.distributed import rank_from_environment
    from footplate.engine.run_config import check_config
    from footplate.tools.iteration_profile import profile_iterations

    cfg = read_config(arguments)
    set_work_dir(cfg, None)
    code = start_processes(arguments, cfg)
    if code is not None:
        return code
    cfg["log_level"] = "WARNING"
    profile = profile_iterations(check_config(cfg, built_next=True), iterations=arguments.iters)
    if not rank_from_environment():
        print_result(arguments, profile.as_data(), wrap_text(str(profile)))
    return 0
