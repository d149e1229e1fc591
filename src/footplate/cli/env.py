"""The command `footplate env`."""

import argparse
from typing import Any

from footplate.cli.output import print_text


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "env",
        help="show the environment, for a bug report",
        description="Show package versions, processors, accelerators and the state of the git repository. Each run "
        "writes the same to environment.json in its folder.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON that lists all installed packages")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the environment."""
    import json

    from footplate.records import describe_environment

    facts = describe_environment()
    if arguments.json:
        print_text(json.dumps(facts, indent=2) + "\n")
        return 0
    lines = {name: value for name, value in facts.items() if isinstance(value, str)}
    width = max(map(len, lines))
    print_text("".join(f"{name:<{width}}  {value}\n" for name, value in lines.items()))
    return 0
