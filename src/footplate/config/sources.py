"""Finds config files, reads their text, and replaces placeholders in double braces.

`{{ fileDirname }}` and similar names stand for parts of the file's own path. `{{$NAME:default}}` stands for an
environment variable. `{{ _base_.a.b }}` stands for a value in the base, and is replaced after the bases are loaded.
"""

import ast
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config.config_dict import TracedDict
from footplate.config.literals import parse_value
from footplate.errors import ConfigError, ConfigKeyError, ConfigSyntaxError, Origin, shown_path
from footplate.extensions import extensions, package_of_repository, recipe_folders
from footplate.messages import first_line, nearest
from footplate.registry.dotted_paths import find_spec

SUFFIXES = (".py", ".json", ".yaml", ".yml")
_CONFIG_FOLDERS = ((".mim", "configs"), ("configs",), (os.pardir, "configs"))
_FILE_NAMES = "fileDirname|fileBasename|fileBasenameNoExtension|fileExtname"
_PREDEFINED = re.compile(rf"\{{\{{\s*({_FILE_NAMES})\s*\}}\}}")
_ENVIRONMENT = re.compile(
    r"\{\{\s*(?P<quote>['\"]?)\s*\$(?P<name>[A-Za-z_]\w*)\s*(?::(?P<default>[^{}\n]*?))?\s*(?P=quote)\s*\}\}"
)
_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+?)\s*\}\}")
# A reference to the base in the expanded text. It is a valid name in Python and a plain scalar in YAML.
_REFERENCE = re.compile(r"__base__·([\w·]+)")
# The opening brace of a placeholder, which is escaped on writing, so that the text is read back unchanged.
PLACEHOLDER_BRACE = re.compile(rf"\{{(?=\{{\s*(?:(?:{_FILE_NAMES}|_base_\.[\w.]+)\s*\}}\}}|['\"]?\s*\$))")


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns the absolute path of a config file, with `~` expanded and forward slashes."""
    return os.path.abspath(os.path.expanduser(os.fspath(path))).replace(os.sep, "/")


def suffix_of(path: str, referrer: Origin | None = None) -> str:
    """Returns the lowercase suffix of a config file. `referrer` is the config line that refers to the file.

    Raises:
        ConfigError: The suffix does not belong to any config format.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return suffix
    name = os.path.basename(path)
    raise ConfigError(f"'{name}' is not a config: the suffix must be one of {', '.join(SUFFIXES)}", origin=referrer)


def read_text(path: str, referrer: Origin | None = None) -> str:
    """Returns the text of a config file. `referrer` is the config line that refers to the file.

    Raises:
        ConfigError: The file is missing, not a regular file, unreadable or not UTF-8.
    """
    shown = shown_path(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ConfigError(f"the config '{shown}' is not a file", origin=referrer)
        return Path(path).read_text("utf-8-sig")
    except FileNotFoundError as error:
        folder, name = os.path.split(path)
        stems = [recipe.stem for recipe in recipe_files()]
        candidates = {stem: f"footplate::{stem}.py" if referrer else stem for stem in stems}
        for neighbor in os.listdir(folder) if os.path.isdir(folder) else []:
            if neighbor.endswith(SUFFIXES):
                candidates[os.path.splitext(neighbor)[0]] = shown_path(os.path.join(folder, neighbor))
        near = nearest(os.path.splitext(name)[0], candidates)
        message = f"there is no config file or recipe '{shown}'"
        note = "`footplate recipes` lists the recipes."
        if referrer:
            message = f"the config file '{shown}' does not exist"
            note = f"The path of a base is relative to the folder of the config that refers to it; tried '{path}'."
        raise ConfigError(message, origin=referrer, suggestion=near and candidates[near], notes=[note]) from error
    except OSError as error:
        raise ConfigError(f"cannot read the config '{shown}': {error.strerror}", origin=referrer) from error
    except UnicodeDecodeError as error:
        raise ConfigSyntaxError(
            f"the config is not valid UTF-8 at byte {error.start}",
            origin=Origin(path, error.object.count(b"\n", 0, error.start) + 1),
            found=error.object[error.start : error.start + 1],
        ) from error


def find_config(name: str | os.PathLike[str]) -> str:
    """Resolves a path, `package::file` or the name of a recipe to the absolute path of a config.

    An existing file takes precedence over a recipe with the same name.

    Raises:
        ConfigError: The package is not installed or has no such config.
    """
    package, mark, file = os.fspath(name).partition("::")
    if mark:
        return locate(package, file)
    path = absolute(name)
    recipes = [recipe for recipe in recipe_files() if recipe.stem == os.fspath(name)]
    return str(recipes[0]) if recipes and not os.path.isfile(path) else path


def locate(package: str, file: str, referrer: Origin | None = None) -> str:
    """Returns the path of a config in a package, without importing the package.

    `file` is relative to the config folder of the package, or to the package itself. The suffix `.py` is optional. The
    package "footplate" has the recipes, and what the configs of `footplate init` inherit from. `referrer` is the config
    line that refers to the file.

    Raises:
        ConfigError: The package is not installed or has no such config.
    """
    if package == "footplate":
        for place in recipe_folders():
            recipe = os.path.join(place, file.removesuffix(".py") + ".py")
            if os.path.isfile(recipe):
                return recipe
    roots = _package_folders(package)
    if not roots:
        advice = [line for extension in extensions() for line in extension.explain_unknown("package", package)]
        message = f"the config '{file}' is in the package '{package}', which is not installed"
        raise ConfigError(
            message, origin=referrer, notes=advice or ["Install it, or add its parent folder to PYTHONPATH."]
        )
    for root, folder, suffix in itertools.product(roots, (*_CONFIG_FOLDERS, (), (".mim",), (os.pardir,)), ("", ".py")):
        path = os.path.normpath(os.path.join(root, *folder, file + suffix))
        if os.path.isfile(path):
            return path
    near = _near_config(package, file)
    message = f"the package '{package}' has no config '{file}'"
    raise ConfigError(message, origin=referrer, suggestion=near, notes=[f"The package is in {roots[0]}."])


def locate_in_clone(name: str, referrer: Origin | None = None) -> str | None:
    """Returns the path of the config in a package that has the same place in a clone of the package's repository.

    Args:
        name: The path in the clone, such as `../mmdetection3d/configs/_base_/default_runtime.py`.
        referrer: The config line that refers to the file.

    Returns:
        The path, or None if `name` does not contain the `configs` folder of a known package's repository.

    Raises:
        ConfigError: The package is not installed or has no such config.
    """
    parts = name.split("/")
    for index, (repository, folder) in enumerate(itertools.pairwise(parts)):
        if folder == "configs" and (package := package_of_repository(repository)):
            return locate(package, "/".join(parts[index + 2 :]), referrer)
    return None


def is_recipe(path: str) -> bool:
    """Checks whether a file is a recipe."""
    return Path(path).resolve() in recipe_files()


def recipe_files() -> list[Path]:
    """Returns the files of all recipes, sorted by name."""
    files = [file.resolve() for folder in recipe_folders() for file in Path(folder).glob("*.py")]
    return sorted(files, key=lambda file: file.name)


class Recipe(NamedTuple):
    """A config that commands find by its name, with a one-line summary and its file."""

    name: str
    summary: str
    path: Path


def recipes() -> list[Recipe]:
    """Returns all recipes, sorted by name."""
    found = []
    for path in recipe_files():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        found.append(Recipe(path.stem, first_line(docstring), path))
    return found


def _near_config(package: str, file: str) -> str | None:
    """Returns `package::file` for the config whose name is most similar to `file`, or None if none is similar.

    The suffix of `file` is optional.
    """
    starts = [Path(root, *folder) for root in _package_folders(package) for folder in _CONFIG_FOLDERS]
    for start in [*map(Path, recipe_folders() if package == "footplate" else ()), *starts]:
        stems = {path.stem: path for path in sorted(start.rglob("*")) if path.suffix in SUFFIXES}
        near = nearest(Path(file).stem, stems)
        if near:
            return f"{package}::{stems[near].relative_to(start)}"
    return None


def _package_folders(package: str) -> list[str]:
    """Returns the folders of a package, without importing it."""
    spec = find_spec(package) if package.isidentifier() else None
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def expand_placeholders(
    text: str, path: str, suffix: str, *, predefined: bool, environment: bool
) -> tuple[str, dict[str, str]]:
    """Replaces placeholders in double braces. A reference `{{ _base_.a.b }}` becomes the word `__base__·a·b`.

    Args:
        text: The text of the file.
        path: The absolute path of the file.
        suffix: The suffix of the format, in which the value of an environment variable is written if its placeholder
            contains quotation marks, as in `{{ '$NAME:default' }}`.
        predefined: Whether to replace `{{ fileDirname }}` and similar names.
        environment: Whether to replace environment variables.

    Returns:
        The new text, and the values of the environment variables in it, keyed by name.

    Raises:
        ConfigKeyError: An environment variable is not set, and its default is missing or empty.
    """
    folder, base_name = os.path.split(path)
    names = dict(zip(_FILE_NAMES.split("|"), (folder, base_name, *os.path.splitext(base_name)), strict=True))
    used: dict[str, str] = {}

    def variable(match: re.Match[str]) -> str:
        name = match["name"]
        value = match["default"]
        origin = Origin(path, match.string.count("\n", 0, match.start()) + 1)
        if name in os.environ:
            value = os.environ[name]
            used[name] = value
        elif not value:
            raise ConfigKeyError(
                f"the environment variable '{name}' is not set, and its placeholder has no default or an empty one",
                origin=origin,
                notes=[f"Set it, or write `{{{{${name}:default}}}}`."],
            )
        if not match["quote"]:
            return _escaped(value)
        try:
            literal = parse_value(value)
        except ConfigError as error:
            error.origin = origin
            raise
        return repr(literal) if suffix == ".py" else json.dumps(literal)

    if "{{" in text:
        text = _PREDEFINED.sub(lambda match: _escaped(names[match[1]]), text) if predefined else text
        text = _ENVIRONMENT.sub(variable, text) if environment else text
        text = _BASE.sub(lambda match: f"__base__·{match[1].replace('.', '·')}", text)
    return text, used


def _escaped(value: str) -> str:
    """Escapes a value for use in a quoted string, with escapes that all config formats support."""
    if '"' not in value and "\\" not in value and "'" not in value and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)[1:-1].replace("'", "\\u0027")


def references_in(text: str) -> list[str]:
    """Returns the key paths, such as `a.b`, of all references `__base__·a·b` in a text; see `expand_placeholders`."""
    return [path.replace("·", ".") for path in _REFERENCE.findall(text)]


def fill_string(text: str, base: Any, origin: Origin) -> Any:
    """Replaces references in a string, such as `__base__·a·b`, with values from the base.

    If the string is a single reference, returns the value itself.

    Raises:
        ConfigKeyError: The base has no such key.
    """
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return _value_at(base, whole[1].split("·"), origin)
    return _REFERENCE.sub(lambda match: str(_value_at(base, match[1].split("·"), origin)), text)


def fill_references(value: Any, base: Any, origin: Origin) -> Any:
    """Returns a copy of a value with the references to the base replaced in all strings; see `fill_string`.

    `origin` is the origin of the value.
    """
    if isinstance(value, TracedDict):
        result = value.copy()
        for key, item in value.items():
            dict.__setitem__(result, key, fill_references(item, base, value._origins.get(key, origin)))
        return result
    if isinstance(value, (list, tuple)):
        return type(value)([fill_references(item, base, origin) for item in value])
    return fill_string(value, base, origin) if isinstance(value, str) else value


def _value_at(base: Any, path: list[str], origin: Origin) -> Any:
    value = base
    for part in path:
        try:
            value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigKeyError(
                f"the base has no key '{'.'.join(path)}'",
                origin=origin,
                suggestion=getattr(error, "suggestion", None),
            ) from error
    return value
