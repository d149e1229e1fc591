"""`footplate recipes`."""

import argparse
from typing import Any

from footplate.cli.streams import say
from footplate.wrap import wrap_for_screen


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "recipes",
        help="list the configs that ship",
        description="List the configs that ship: `footplate train NAME` "
        "trains one, `_base_ = 'footplate::NAME.py'` begins a config of your own.",
    )
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the name, summary and file of each recipe."""
    from footplate.tasks.recipes import recipes

    found = recipes()
    width = max(len(recipe.name) for recipe in found) + 2
    for recipe in found:
        say(wrap_for_screen(f"{recipe.name:<{width}}{recipe.summary}\n{'':<{width}}{recipe.path}\n"))
    return 0
