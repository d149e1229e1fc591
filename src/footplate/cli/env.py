"""`footplate env`."""

import argparse
from typing import Any

from footplate.cli.streams import say


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "env",
        help="show what a bug report needs",
        description="Show interpreter, packages, processors, accelerators and the state of the git tree; each run "
        "writes the same into its folder, as environment.json.",
    )
    parser.add_argument("--json", action="store_true", help="with every installed package, as JSON")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the environment."""
    import json

    from footplate.records import describe_environment

    facts = describe_environment()
    if arguments.json:
        say(json.dumps(facts, indent=2) + "\n")
        return 0
    words = {name: value for name, value in facts.items() if isinstance(value, str)}
    width = max(map(len, words))
    say("".join(f"{name:<{width}}  {value}\n" for name, value in words.items()))
    return 0
