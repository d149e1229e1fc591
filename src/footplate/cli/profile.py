"""The command `footplate profile`."""

import argparse
from typing import Any

from footplate.cli.arguments import add_config, add_no_patches, read_config, set_work_dir
from footplate.cli.launching import add_launcher, set_launcher, start_processes, starts_processes
from footplate.cli.output import print_result
from footplate.messages import wrap_text


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "profile",
        help="measure the parts of an iteration",
        description="Train a few iterations on real data. Show the time spent waiting for data, in the data "
        "preprocessor, in forward and backward pass, in the optimizer and in hooks, and suggest improvements. Leaves "
        "no files.",
        epilog="Example: footplate profile config.py --iters 50",
    )
    add_config(parser)
    parser.add_argument(
        "--iters", metavar="N", type=int, default=20, help="the number of iterations to measure (default: 20)"
    )
    add_launcher(parser)
    add_no_patches(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the profile."""
    from footplate.distributed import rank_from_environment
    from footplate.engine.run_config import check_config
    from footplate.tools.iteration_profile import profile_iterations

    cfg = read_config(arguments)
    set_work_dir(cfg, None)
    set_launcher(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    cfg["log_level"] = "WARNING"
    profile = profile_iterations(check_config(cfg, built_next=True), iterations=arguments.iters)
    if not rank_from_environment():
        print_result(arguments, profile.as_data(), wrap_text(str(profile)))
    return 0
