"""Implements the commands that show runs and the environment: `footplate analyze`, `report` and `env`."""

import os
from argparse import Namespace
from typing import Any

from footplate.cli.arguments import add_command
from footplate.cli.output import print_result, wrap_for_screen
from footplate.messages import format_bytes
from footplate.tools.output_check import check_output

_RUN_HELP = "a work_dir, or a scalars.json or .log.json file"


def add_commands(subparsers: Any) -> None:
    """Adds the commands to the parser."""
    analyze = add_command(
        subparsers,
        "analyze",
        analyze_runs,
        "show times and best values of runs",
        "Show the times, the last and best values and the checkpoints of one or more runs, given as "
        "work_dirs or scalar files of footplate, MMEngine or MMCV.",
        "footplate analyze work_dirs/a work_dirs/b",
    )
    analyze.add_value("runs", "WORK_DIR", _RUN_HELP, nargs="+")
    report = add_command(
        subparsers,
        "report",
        report_runs,
        "write an HTML report of runs",
        "Write an HTML file with a summary, curves, images, per-class results, config, environment and "
        "warnings. It works offline. Several work_dirs are compared side by side.",
        "footplate report work_dirs/a work_dirs/b --out compared.html",
    )
    report.add_value("runs", "WORK_DIR", _RUN_HELP, nargs="+")
    report.add_value(
        "-o --out", "FILE", "the HTML file (default: WORK_DIR/report.html for a single work_dir, otherwise report.html)"
    )
    add_command(
        subparsers,
        "env",
        show_environment,
        "show the environment for a bug report",
        "Show package versions, CPUs, accelerators and the state of the git repository. Each run "
        "writes this information to environment.json in its folder. With --json, list all installed packages.",
    )


def analyze_runs(arguments: Namespace) -> None:
    """Prints the summaries of runs."""
    from footplate.tools.analysis import describe_runs, explain_runs
    from footplate.tools.runs import read_runs

    _, facts = describe_runs(read_runs(arguments.runs))
    print_result(arguments, facts, wrap_for_screen(explain_runs(facts)))


def report_runs(arguments: Namespace) -> None:
    """Writes the report and prints its path."""
    from footplate.tools.report import write_report
    from footplate.tools.runs import REPORTS, read_runs

    alone = len(arguments.runs) == 1 and os.path.isdir(arguments.runs[0])
    path = arguments.out or (os.path.join(arguments.runs[0], "report.html") if alone else "report.html")
    # The reports among the inputs are not read.
    inputs = [name for name in arguments.runs if os.path.isfile(name) and not name.endswith(REPORTS)]
    check_output(path, suffixes=REPORTS, inputs=inputs)
    size = write_report(read_runs(arguments.runs), path)
    print_result(arguments, {"file": path, "bytes": size}, f"{path}, {format_bytes(size)}\n")


def show_environment(arguments: Namespace) -> None:
    """Prints the package versions, the accelerator and other facts about the environment."""
    from footplate.records import describe_environment

    facts = describe_environment()
    lines = {name: value for name, value in facts.items() if isinstance(value, str)}
    width = max(map(len, lines))
    print_result(arguments, facts, "".join(f"{name:<{width}}  {value}\n" for name, value in lines.items()))
