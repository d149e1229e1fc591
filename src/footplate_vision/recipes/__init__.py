"""Finds the recipes: configs that ship with footplate."""

import ast
from pathlib import Path
from typing import NamedTuple

from footplate.messages import first_line

_FOLDER = Path(__file__).parent / "configs"


class Recipe(NamedTuple):
    """A config that ships with footplate, with its name, a one-line summary and its file."""

    name: str
    summary: str
    path: Path


def recipes() -> list[Recipe]:
    """Returns all recipes, sorted by name."""
    found = []
    for path in sorted(_FOLDER.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        found.append(Recipe(path.stem, first_line(docstring), path))
    return found
