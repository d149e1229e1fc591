"""`footplate diff`."""

import argparse
import sys
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "diff",
        help="compare two resolved configs",
        description="Compare two resolved configs by meaning: files, recipes, or the configs inside two work_dirs. "
        "Exits 1 if they differ. Nothing that the configs name is imported.",
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the keys that differ, each with both values and their places."""
    from footplate.config import Config
    from footplate.inspection.diff import compare, describe, locate

    first, second = (
        Config.fromfile(locate(name), import_custom_modules=False) for name in (arguments.first, arguments.second)
    )
    differences = compare(first, second)
    sys.stdout.write(describe(differences) if differences else "the configs mean the same\n")
    return 1 if differences else 0
