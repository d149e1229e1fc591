"""Implements the command `footplate test`."""

import os
from argparse import Namespace
from typing import Any

from footplate.cli.arguments import add_command, add_config
from footplate.cli.config_arguments import read_run_config
from footplate.cli.launching import add_launcher, start_processes
from footplate.cli.output import print_result


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    test = add_command(
        subparsers,
        "test",
        test_checkpoint,
        "test a checkpoint",
        "Test a checkpoint on the test data of a config or recipe.",
        "footplate test config.py work_dirs/config/iter_4000.pth",
    )
    add_config(test)
    test.add_value("checkpoint", "CHECKPOINT", "a checkpoint of the model")
    test.add_value(
        "--work-dir",
        "DIR",
        "the folder for metrics and images (default: the config's work_dir, or work_dirs/<config name>)",
    )
    add_launcher(test)


def test_checkpoint(arguments: Namespace) -> int:
    """Tests a checkpoint and prints the path of the metrics file."""
    cfg = read_run_config(arguments)
    cfg["resume"], cfg["load_from"] = False, arguments.checkpoint
    code = start_processes(arguments)
    if code is not None:
        return code
    from footplate.engine import Runner

    runner = Runner.from_cfg(cfg)
    runner.resume_plan.key = "CHECKPOINT"
    try:
        metrics = runner.test()
    except Exception as error:
        from footplate.cli.error_messages import raise_module_error

        raise_module_error("the test", error, runner)
        raise
    if not runner.rank:
        path = f"{os.path.join(runner.folder.log_dir, runner.folder.timestamp)}.json"
        print_result(arguments, {"metrics": metrics, "file": path}, f"metrics:  {path}\n")
    return 0
