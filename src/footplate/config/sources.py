"""Finds config files, reads their text, and replaces placeholders in double braces.

`{{ fileDirname }}` and similar names are parts of the file's own path, and `{{$NAME:default}}` is an environment
variable. `{{ _base_.a.b }}` is a value of the base, inserted after the bases are loaded.
"""

import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config.origins import Place, TracedDict, shown_path
from footplate.errors import ConfigError, ConfigKeyError, ConfigSyntaxError, Origin
from footplate.extensions import known_packages
from footplate.messages import nearest
from footplate.registry.dotted_paths import check_not_hidden

SUFFIXES = (".py", ".json", ".yaml", ".yml", ".toml")
_RECIPES = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir, "tasks", "recipes", "configs"))
_CONFIG_FOLDERS = ((".mim", "configs"), ("configs",), ("tasks", "recipes", "configs"), (os.pardir, "configs"))
_FILE_NAMES = "fileDirname|fileBasename|fileBasenameNoExtension|fileExtname"
_PREDEFINED = re.compile(rf"\{{\{{\s*({_FILE_NAMES})\s*\}}\}}")
_ENVIRONMENT = re.compile(
    r"\{\{\s*(?P<quote>['\"]?)\s*\$(?P<name>[A-Za-z_]\w*)\s*(?::(?P<default>[^{}\n]*?))?\s*(?P=quote)\s*\}\}"
)
_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+?)\s*\}\}")
_REFERENCE = re.compile(r"__footplate_base_(\d+)__")
# The first brace of a placeholder. Writers escape it, so that the text is read back unchanged.
PLACEHOLDER_BRACE = re.compile(rf"\{{(?=\{{\s*(?:(?:{_FILE_NAMES}|_base_\.[\w.]+)\s*\}}\}}|['\"]?\s*\$))")


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns the absolute path of a config file, with `~` expanded and forward slashes."""
    return os.path.abspath(os.path.expanduser(os.fspath(path))).replace(os.sep, "/")


def suffix_of(path: str, asked_at: Origin | None = None) -> str:
    """Returns the suffix of a config file in lower case.

    Raises:
        ConfigError: The suffix is not that of a config format.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return suffix
    name = os.path.basename(path)
    raise ConfigError(f"'{name}' is not a config: the suffix must be one of {', '.join(SUFFIXES)}", origin=asked_at)


def read_text(path: str, asked_at: Origin | None = None) -> str:
    """Returns the text of a config file. `asked_at` is the place that refers to it.

    Raises:
        ConfigError: The file is missing, not a regular file, unreadable or not UTF-8.
    """
    shown = shown_path(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ConfigError(f"the config '{shown}' is not a file", origin=asked_at)
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        folder, name = os.path.split(path)
        neighbors = os.listdir(folder) if os.path.isdir(folder) else []
        near = nearest(name, [neighbor for neighbor in neighbors if neighbor.endswith(SUFFIXES)])
        note = f"The path of a base is relative to the folder of the config that refers to it; tried '{path}'."
        raise ConfigError(
            f"the config file '{shown}' does not exist",
            origin=asked_at,
            suggestion=packaged_config(name)
            or (shown_path(os.path.join(folder, near)) if near else _near_config("footplate", name)),
            notes=[note] if asked_at else (),
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read the config '{shown}': {error.strerror}", origin=asked_at) from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ConfigSyntaxError(
            f"the config is not valid UTF-8 at byte {error.start}",
            origin=Place(path, data.count(b"\n", 0, error.start) + 1),
            found=data[error.start : error.start + 1],
        ) from error


def split_package(name: str) -> tuple[str, str] | None:
    """Splits `package::file` into the package and the file. Returns None for a plain path."""
    package, mark, rest = name.partition("::")
    return (package, rest) if mark else None


def locate(package: str, file: str, asked_at: Origin | None = None) -> str:
    """Returns the path of a config in another package, without importing the package.

    Raises:
        ConfigError: The package is not installed or has no such config.
    """
    roots = _package_folders(package)
    if not roots:
        check_not_hidden(package, asked_at)
        name = known_packages().get(package)
        advice = f"pip install 'footplate[hosts]' {name}" if name else "or add its parent folder to PYTHONPATH"
        raise ConfigError(
            f"the package '{package}' of '{package}::{file}' is not installed",
            origin=asked_at,
            notes=[f"Install it: {advice}" if name else f"Install it, {advice}."],
        )
    for root in roots:
        for folder in _CONFIG_FOLDERS:
            path = os.path.normpath(os.path.join(root, *folder, file))
            for candidate in (path, f"{path}.py"):
                if os.path.isfile(candidate):
                    return candidate
    near = _near_config(package, file)
    raise ConfigError(f"the package '{package}' has no config '{file}'", origin=asked_at, suggestion=near)


def locate_module(module: str, asked_at: Origin | None = None) -> str:
    """Returns the path of the config that `from package.configs.folder.name import *` in `read_base` refers to.

    Raises:
        ConfigError: The config does not exist.
    """
    package, _, rest = module.partition(".")
    parts = rest.split(".")
    for root in _package_folders(package):
        for candidate in (parts, [".mim", *parts], [os.pardir, *parts]):
            path = os.path.normpath(os.path.join(root, *candidate) + ".py")
            if os.path.isfile(path):
                return path
    raise ConfigError(
        f"there is no config '{module}'", origin=asked_at, notes=[f"Check that the package '{package}' is installed."]
    )


def is_recipe(path: str) -> bool:
    """Checks whether a file is one of footplate's recipes."""
    return os.path.dirname(os.path.realpath(path)) == _RECIPES


def packaged_config(name: str) -> str | None:
    """Returns `package::file` of the config in footplate or an installed code base whose file is called `name`."""
    stem = Path(name).stem
    found = (_near_config(package, name) for package in ("footplate", *known_packages()))
    return next((each for each in found if each and each.endswith((f"::{stem}.py", f"/{stem}.py"))), None)


def _near_config(package: str, file: str) -> str | None:
    """Returns `package::file` of the config whose name is most similar to `file`, or None.

    `file` may lack a suffix.
    """
    for start in [Path(root, *folder) for root in _package_folders(package) for folder in _CONFIG_FOLDERS]:
        stems = {path.stem: path for path in sorted(start.rglob("*")) if path.suffix in SUFFIXES}
        near = nearest(Path(file).stem, stems)
        if near:
            return f"{package}::{stems[near].relative_to(start)}"
    return None


def _package_folders(package: str) -> list[str]:
    """Returns the folders of a package, given its import name or its distribution name."""
    folders = _module_folders(package)
    if folders:
        return folders
    import importlib.metadata  # takes 0.1 s, and few configs need it

    try:
        names = (importlib.metadata.distribution(package).read_text("top_level.txt") or "").split()
    except (importlib.metadata.PackageNotFoundError, ValueError, OSError):
        return []
    return next((found for found in map(_module_folders, names) if found), [])


def _module_folders(name: str) -> list[str]:
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        return []
    return list(spec.submodule_search_locations or ()) if spec is not None else []


class ExpandedText(NamedTuple):
    """The text of a config after placeholder substitution.

    Attributes:
        text: The expanded text. A reference to the base with index 3 becomes `__footplate_base_3__`.
        environment: The environment variables that were used.
        references: The key paths of the base to which the text refers.
    """

    text: str
    environment: dict[str, str]
    references: list[str]


def expand_placeholders(
    text: str, path: str, *, predefined: bool = True, environment: bool = True, literal: Callable[[str], str] = str
) -> ExpandedText:
    """Replaces the placeholders in double braces.

    Args:
        text: The text of the file.
        path: The absolute path of the file.
        predefined: Whether to replace `{{ fileDirname }}` and similar names.
        environment: Whether to replace environment variables.
        literal: Formats the value of an environment variable whose placeholder contains quotation marks.

    Raises:
        ConfigKeyError: An environment variable is not set and has no default.
    """
    folder, base_name = os.path.split(path)
    names = dict(zip(_FILE_NAMES.split("|"), (folder, base_name, *os.path.splitext(base_name)), strict=True))
    used: dict[str, str] = {}
    references: list[str] = []

    def variable(match: re.Match[str]) -> str:
        name, value = match["name"], match["default"]
        place = Place(path, match.string.count("\n", 0, match.start()) + 1)
        if name in os.environ:
            value = used[name] = os.environ[name]
        elif not value:
            raise ConfigKeyError(
                f"the environment variable '{name}' is not set and has no default",
                origin=place,
                notes=[f"Set it, or write `{{{{${name}:default}}}}`."],
            )
        if not match["quote"]:
            return _escaped(value)
        try:
            return literal(value)
        except ConfigError as error:
            error.origin = place
            raise

    def reference(match: re.Match[str]) -> str:
        references.append(match[1])
        return f"__footplate_base_{len(references) - 1}__"

    if "{{" in text:
        text = _PREDEFINED.sub(lambda match: _escaped(names[match[1]]), text) if predefined else text
        text = _ENVIRONMENT.sub(variable, text) if environment else text
        text = _BASE.sub(reference, text)
    return ExpandedText(text, used, references)


def _escaped(value: str) -> str:
    """Escapes a value for use inside a quoted string, with escapes that all config formats support."""
    if '"' not in value and "\\" not in value and "'" not in value and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)[1:-1].replace("'", "\\u0027")


def references_in(text: str) -> list[int]:
    """Returns the indices of the references to the base in `text`."""
    return [int(number) for number in _REFERENCE.findall(text)]


def fill_string(text: str, value_of: Callable[[int], object]) -> object:
    """Replaces references in a string with values of the base. A string that consists of one reference becomes the
    value itself."""
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return value_of(int(whole[1]))
    return _REFERENCE.sub(lambda match: str(value_of(int(match[1]))), text)


def fill_references(value: Any, base: Any, references: list[str], origin: Origin) -> Any:
    """Replaces the references to the base in all strings of a value. `origin` is the origin of the value."""
    if isinstance(value, TracedDict):
        result = TracedDict()
        for key, item in value.items():
            place = value._origins.get(key, origin)
            dict.__setitem__(result, key, fill_references(item, base, references, place))
        result._copy_origins(value)
        return result
    if isinstance(value, (list, tuple)):
        return type(value)([fill_references(item, base, references, origin) for item in value])
    if isinstance(value, str):
        return fill_string(value, lambda number: referenced_value(base, references[number], origin))
    return value


def referenced_value(base: Any, path: str, origin: Origin) -> Any:
    """Returns the value of the base that a placeholder `{{ _base_.path }}` refers to.

    Raises:
        ConfigKeyError: The base has no such key.
    """
    value = base
    for part in path.split("."):
        try:
            value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigKeyError(
                f"the base has no key '{path}'", origin=origin, suggestion=getattr(error, "suggestion", None)
            ) from error
    return value
