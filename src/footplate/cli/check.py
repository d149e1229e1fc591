"""`footplate check`."""

import argparse
import sys
from typing import Any

from footplate.cli.launching import add_launcher, choose_launcher, start_processes, starts_processes
from footplate.cli.options import add_config, choose_work_dir, read_config


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="try a run before it starts",
        description="Build everything, train two iterations, validate a batch, save and load, on the real data; then "
        "tell what the run will do: groups, speed, time, memory, schedule, metrics, hooks, warnings. Nothing is left.",
    )
    add_config(parser)
    parser.add_argument("--work-dir", metavar="DIR", help="where the run would write")
    parser.add_argument("--no-run", action="store_true", help="stop before data and weights are touched")
    add_launcher(parser)
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Checks."""
    from footplate.distributed import rank_of_environment
    from footplate.inspection.check import check

    cfg = read_config(arguments)
    choose_work_dir(cfg, arguments.work_dir)
    choose_launcher(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    told = check(cfg, run=not arguments.no_run)
    if not rank_of_environment():
        sys.stdout.write(told)
    return 0
