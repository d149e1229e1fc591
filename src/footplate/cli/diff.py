"""`footplate diff`."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from footplate.cli.streams import say

if TYPE_CHECKING:
    from footplate.config import Config


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "diff",
        help="compare two resolved configs",
        description="Compare two resolved configs by meaning: files, recipes, or the configs inside two work_dirs. "
        "Exits 1 if they differ. Nothing that the configs name is imported, and nothing in a work_dir is executed.",
    )
    parser.add_argument("first", metavar="A", help="a config file, the name of a recipe, or a work_dir")
    parser.add_argument("second", metavar="B", help="what it is compared with")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the keys that differ, with both values and their places."""
    from footplate.tools.diff import OF_A_START, compare, describe, read_either

    first, second = (read_either(name) for name in (arguments.first, arguments.second))
    differences = compare(*_of_one_generation(first, second))
    if any(map(os.path.isdir, (arguments.first, arguments.second))):
        # Keys about where a run is stored and how it was started do not change its result.
        differences = [each for each in differences if each.path not in OF_A_START]
    say(describe(differences) if differences else "the configs mean the same\n")
    return 1 if differences else 0


def _of_one_generation(first: "Config", second: "Config") -> "tuple[Config, Config]":
    """Translates the first-generation config if the other one is second-generation, so that they can be compared."""
    from footplate.first_generation.translation import is_first_generation, translate

    if is_first_generation(first) == is_first_generation(second):
        return first, second
    return (translate(first), second) if is_first_generation(first) else (first, translate(second))
