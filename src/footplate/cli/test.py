"""The command `footplate test`."""

import argparse
import os
from typing import Any

from footplate.cli.arguments import add_config, add_no_patches, add_trust, read_config, set_work_dir
from footplate.cli.launching import add_launcher, set_launcher, start_processes, starts_processes
from footplate.cli.output import print_result


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "test",
        help="test a checkpoint",
        description="Test a checkpoint on the test data of a config or recipe.",
        epilog="Example: footplate test config.py work_dirs/config/iter_4000.pth",
    )
    add_config(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint of the model")
    parser.add_argument(
        "--work-dir", metavar="DIR", help="the folder for metrics and images (default: work_dirs/<name of the config>)"
    )
    add_launcher(parser)
    add_trust(parser)
    add_no_patches(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Tests a checkpoint and prints the path of the metrics."""
    cfg = read_config(arguments)
    set_work_dir(cfg, arguments.work_dir)
    cfg["resume"], cfg["load_from"] = False, arguments.checkpoint
    set_launcher(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    from footplate.checkpoint import trusting
    from footplate.engine import Runner

    runner = Runner.from_cfg(cfg)
    try:
        with trusting(arguments.trust):
            metrics = runner.test()
    except Exception as error:
        from footplate.cli.error_messages import raise_module_error

        raise_module_error("the test", error, runner)
        raise
    if not runner.rank:
        path = f"{os.path.join(runner.log_dir, runner.timestamp)}.json"
        print_result(arguments, {"metrics": metrics, "file": path}, f"metrics:  {path}\n")
    return 0
