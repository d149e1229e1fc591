"""The command `footplate env`."""

import argparse
from typing import Any

from footplate.cli.output import print_result


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "env",
        help="show the environment, for a bug report",
        description="Show package versions, processors, accelerators and the state of the git repository. Each run "
        "writes this information to environment.json in its folder. With --json, lists all installed packages.",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the environment."""
    from footplate.records import describe_environment

    facts = describe_environment()
    lines = {name: value for name, value in facts.items() if isinstance(value, str)}
    width = max(map(len, lines))
    print_result(arguments, facts, "".join(f"{name:<{width}}  {value}\n" for name, value in lines.items()))
    return 0
