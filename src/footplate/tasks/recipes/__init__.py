"""Finds the recipes: configs that ship with footplate."""

import ast
import os
from pathlib import Path
from typing import NamedTuple

from footplate.config.sources import SUFFIXES, packaged_config
from footplate.errors import ConfigError
from footplate.messages import nearest

_FOLDER = Path(__file__).parent / "configs"


class Recipe(NamedTuple):
    """A config that ships with footplate: its name, a one-line summary and its file."""

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


def find_config(name: str) -> str:
    """Returns the path of a config file or of the recipe called `name`. `package::file` is returned unchanged.

    Raises:
        ConfigError: There is no such file or recipe.
    """
    if os.path.exists(name) or "::" in name:
        return name
    known = {recipe.name: recipe for recipe in recipes()}
    if name in known:
        return str(known[name].path)
    parent = Path(name).parent
    neighbors = [str(path) for path in parent.glob("*") if path.suffix in SUFFIXES]
    raise ConfigError(
        f"there is no config file or recipe '{name}'",
        suggestion=packaged_config(name) or nearest(name, [*known, *neighbors]),
        notes=["`footplate recipes` lists the recipes"],
    )
