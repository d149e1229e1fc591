"""`footplate test`."""

import argparse
import os
from typing import Any

from footplate.cli.launching import add_launcher, choose_launcher, start_processes, starts_processes
from footplate.cli.options import add_config, add_trust, choose_work_dir, read_config
from footplate.cli.streams import say


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "test", help="test a checkpoint", description="Test a checkpoint on the test data of a config or recipe."
    )
    add_config(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint of the model")
    parser.add_argument("--work-dir", metavar="DIR", help="where metrics and pictures go")
    add_launcher(parser)
    add_trust(parser)
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Tests a checkpoint."""
    cfg = read_config(arguments)
    choose_work_dir(cfg, arguments.work_dir)
    cfg["resume"], cfg["load_from"] = False, arguments.checkpoint
    choose_launcher(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    from footplate.checkpoint import trusting
    from footplate.engine import Runner

    runner = Runner.from_cfg(cfg)
    try:
        with trusting(arguments.trust):
            runner.test()
    except Exception as error:
        from footplate.cli.failures import raise_of_module

        raise_of_module("the test", error, runner)
        raise
    if not runner.rank:
        say(f"metrics:  {os.path.join(runner.log_dir, runner.timestamp)}.json\n")
    return 0
