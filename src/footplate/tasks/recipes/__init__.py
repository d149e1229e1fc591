"""Finds the recipes: configs that ship with footplate."""

import ast
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "configs"


class Recipe(NamedTuple):
    """A config that ships with footplate, with its name, a one-line summary and its file."""

    name: str
    summary: str
    path: Path


def recipes() -> list[Recipe]:
    """Returns all recipes, sorted by name."""
    found = []
    for path in sorted(_FOLDER.glob("*.py"), key=lambda path: path.stem):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found.append(Recipe(path.stem, docstring.partition("\n")[0], path))
    return found
