"""`footplate recipes`."""

import argparse
import sys
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "recipes", help="list the configs that ship", description="List the configs that ship with footplate."
    )
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Lists name, summary and file of each recipe."""
    from footplate.recipes.catalog import recipes

    found = recipes()
    width = max(len(recipe.name) for recipe in found) + 2
    for recipe in found:
        sys.stdout.write(f"{recipe.name:<{width}}{recipe.summary}\n{'':<{width}}{recipe.path}\n")
    return 0
