"""Reads a research repository without executing it, and estimates which of its configs run.

Configs and modules are parsed only. What a config needs follows from the names of its types: each is a class of
footplate, of torch, of an installed code base or of the repository. A class of the repository needs the packages and
compiled modules that its file imports.
"""

import ast
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from footplate.advice import DISTRIBUTIONS
from footplate.registry.root import ROOT_REGISTRIES
from footplate_openmmlab.extension import CODE_BASES, REPOSITORIES
from footplate_openmmlab.requirements import first_generation_extra
from footplate_operators import OperatorsFinder

_SKIPPED = frozenset({"build", "demo", "docs", "test", "tests", "third_party"})
_PROVIDED = frozenset({"mmengine", "mmcv", "footplate"})
_ALWAYS = ("mmcv", "mmengine", "footplate_openmmlab")  # packages whose names each config may use
_MODULES = ("torch.nn", "torch.optim", "torch.utils.data", "torch.optim.lr_scheduler", "footplate_operators.mmcv_ops")
_FIRST = frozenset({"checkpoint_config", "lr_config", "optimizer_config", "runner", "total_epochs"})
_REGISTERING = "register"  # in the names of decorators and methods that register a class


class Outcome(NamedTuple):
    """What is known about a config.

    Attributes:
        config: The path, relative to the repository.
        result: "runs", "after" (a step), "cannot" or "unknown".
        reason: The step or the cause. Empty if the config runs.
    """

    config: str
    result: str
    reason: str


class _File(NamedTuple):
    """A parsed Python file: the names that it registers, and what it imports, with the leading dots."""

    registered: frozenset[str]
    imports: frozenset[str]
    relative: frozenset[str]  # the modules of the same package that it imports


def examine(folder: Path, configs: Iterable[Path]) -> list[Outcome]:
    """Returns an outcome for each config of a repository.

    Args:
        folder: The repository.
        configs: The configs, from `find_configs`.
    """
    project = cache(lambda root: _Project(root, folder))
    return [Outcome(os.path.relpath(path, folder), *project(_root_of(path, folder)).outcome(path)) for path in configs]


def find_configs(folder: Path) -> list[Path]:
    """Returns the configs of a repository that define a model, not those that they inherit from."""
    return [
        path
        for path in _python_files(folder)
        if any("config" in part for part in path.relative_to(folder).parts[:-1])
        and not {"_base_", "__pycache__"} & {*path.parts}
        and path.name != "__init__.py"
        and (_read_config(path)[1] or isinstance(_read_config(path)[0].get("model"), dict))
    ]


def _root_of(config: Path, folder: Path) -> Path:
    """Returns the folder that contains the config's folder of configs: a repository may consist of several projects."""
    parts = config.relative_to(folder).parts
    place = next(place for place, part in enumerate(parts) if "config" in part)
    return folder.joinpath(*parts[:place])


class _Project:
    """The modules of a repository, or of a part of it, and of the code bases that it uses."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._folder = folder
        everything = sorted(_python_files(folder), key=lambda path: path.is_relative_to(root))
        self._home: dict[str, Path] = {}  # of each registered name; the project's own modules come last and win
        for path in everything:
            self._home |= dict.fromkeys(_parse(path).registered, path)
        self._files = {path: _parse(path) for path in everything if path.is_relative_to(root)}
        self._known = {*everything}
        self._top = {part for path in everything for part in (path.stem, *path.relative_to(folder).parts[:-1])}
        imports = {name.partition(".")[0] for file in self._files.values() for name in file.imports}
        self._roots = (root, folder)
        self._bases = sorted(name for name in CODE_BASES if name in imports and not (root / name).is_dir())
        self._absent = [name for name in self._bases if importlib.util.find_spec(name) is None]
        # The compiled modules that the repository builds.
        builds = [path for path in everything if path.name == "setup.py" and any(path.parent.rglob("*.cu"))]
        self._compiled = {name for path in builds for name in _constants(_tree(path))}

    def outcome(self, path: Path) -> tuple[str, str]:
        """Returns the result and the reason for a config; see `Outcome`."""
        cfg, missing = _read_config(path)
        if missing:
            return "cannot", missing
        if not isinstance(cfg.get("model"), dict):
            return "unknown", "the model is not set in a way that can be read without executing the config"
        # `type` may also be the argument of a class; the names of most classes begin with a capital letter.
        names = {name.rpartition(".")[2] for name in _types(cfg)}
        names = {name for name in names if name in self._home or name[:1].isupper()}
        if self._absent:
            is_first = bool(_FIRST & cfg.keys())
            extras = [first_generation_extra(name) if is_first else name for name in self._absent]
            return "after", f"pip install -e '.[{','.join(dict.fromkeys(extras))}]' in the clone of footplate"
        known = frozenset().union(*map(_names_of_package, [*self._bases, *_ALWAYS]))
        unknown = sorted(name for name in names if name not in self._home and name not in known and not _is_known(name))
        if unknown:
            return "unknown", f"no module that was read registers {', '.join(unknown[:3])}"
        own = {self._home[name] for name in names & self._home.keys() if name not in known and not _is_known(name)}
        used = self._used_by(own)
        for file in sorted(used):
            for module in sorted(_parse(file).relative):
                level = len(module) - len(module.lstrip("."))
                path = file.parents[level - 1].joinpath(*module.lstrip(".").split("."))
                if not path.is_dir() and not list(path.parent.glob(f"{path.name}.*")):
                    return "cannot", f"{file.relative_to(self._folder)} imports '{module}', which is missing"
        imported = {name for file in used for name in _parse(file).imports}
        absent = {name.partition(".")[0] for name in imported if self._is_missing(name)}
        if compiled := sorted(absent & self._compiled):
            return "cannot", f"needs its own compiled operators: {', '.join(compiled)}"
        if absent:
            return "after", f"pip install {' '.join(sorted(DISTRIBUTIONS.get(name, name) for name in absent))}"
        modules = {self._module_of(file) for file in own} - CODE_BASES.keys()
        if modules and not {"custom_imports", "plugin"} & cfg.keys():
            return "after", f"custom_imports = dict(imports={sorted(modules)})"
        return "runs", ""

    def _module_of(self, file: Path) -> str:
        """Returns the package or module to import for a file."""
        root = next(root for root in self._roots if file.is_relative_to(root))
        return file.relative_to(root).parts[0].removesuffix(".py")

    def _used_by(self, files: Iterable[Path]) -> set[Path]:
        """Returns files of the repository with those that they import, directly or through others."""
        used, pending = set[Path](), [*files]
        while pending:
            file = pending.pop()
            if file not in used:
                used.add(file)
                pending += (found for name in _parse(file).imports if (found := self._file_of(name, file)))
        return used

    def _file_of(self, name: str, importer: Path) -> Path | None:
        """Returns the file of an imported module, or None if it is not in the repository."""
        plain = name.lstrip(".")
        level = len(name) - len(plain)
        roots = (importer.parents[level - 1],) if level else (*self._roots, importer.parent)
        paths = (root.joinpath(*plain.split(".")) for root in roots)
        return next((file for path in paths if (file := path.with_suffix(".py")) in self._known), None)

    def _is_missing(self, name: str) -> bool:
        """Checks whether an import is neither installed, nor of the repository, nor provided by footplate."""
        top = name.partition(".")[0]
        if not top or top in _PROVIDED or top in self._top or top in sys.stdlib_module_names or top in CODE_BASES:
            return False
        return _find(top) is None and OperatorsFinder().find_spec(top) is None


def _python_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(".py"))


def _find(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)  # imports nothing, because the name has no parents
    except ValueError:
        return None


def _tree(path: Path) -> ast.Module:
    """Parses a file. A file that is not Python 3 counts as empty."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_text("utf-8", "replace"))
    except (SyntaxError, ValueError, RecursionError, OSError):
        return ast.Module([], [])


@cache
def _parse(path: Path) -> _File:
    registered, imports, relative = set[str](), set[str](), set[str]()
    tree = _tree(path)
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            for decorator in node.decorator_list:
                if _REGISTERING in ast.unparse(decorator):
                    registered |= {node.name, *_constants(decorator)}
        elif isinstance(node, ast.Call) and _REGISTERING in ast.unparse(node.func):
            registered |= {*_constants(node), *(each.id for each in ast.walk(node) if isinstance(each, ast.Name))}
    for node in tree.body:  # what is imported in `try`, in `if` and in functions is optional
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            relative |= {module} if node.level and node.module else set()
            separator = "" if module.endswith(".") else "."
            imports |= {module, *(f"{module}{separator}{alias.name}" for alias in node.names)}
    return _File(frozenset(registered), frozenset(imports), frozenset(relative))


def _constants(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


@cache
def _names_of_package(name: str) -> frozenset[str]:
    """Returns the names that an installed package registers."""
    places = getattr(_find(name), "submodule_search_locations", None) or ()
    files = (path for place in places for path in _python_files(Path(place)))
    return frozenset(registered for path in files for registered in _parse(path).registered)


@cache
def _is_known(name: str) -> bool:
    """Checks whether footplate or torch has a class with this name."""
    if any(hasattr(importlib.import_module(module), name) for module in _MODULES):
        return True
    return any(name in registry for registry in ROOT_REGISTRIES.values())


@cache
def _read_config(path: Path) -> tuple[dict[str, Any], str]:
    """Returns what can be read of a config without executing it, merged with its bases, and the first missing file."""
    cfg, names, missing = dict[str, Any](), dict[str, Any](), ""
    for node in _tree(path).body:
        for target in getattr(node, "targets", ()):
            if isinstance(target, ast.Name):
                names[target.id] = _value(getattr(node, "value", None), names)
    bases = names.pop("_base_", [])
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else ():
        file = Path(os.path.normpath(path.parent / str(base)))
        if "::" in str(base) or "{" in str(base) or REPOSITORIES.keys() & {*file.parts}:
            continue  # of an installed package
        if not file.is_file():
            return {}, f"the base '{base}' of {path.name} is missing"
        inherited, lost = _read_config(file)
        cfg, missing = _merged(cfg, inherited), missing or lost
    return _merged(cfg, names), missing


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns a dict with changes, as configs inherit."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict) and not value.get("_delete_"):
            value = _merged(base[key], value)
        result[key] = value
    return result


def _value(node: ast.AST | None, names: dict[str, Any]) -> Any:
    """Returns the value of a literal, of `dict(...)` and of variables in them. Anything else is None."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, names) for item in node.elts]
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
        pairs = [(keyword.arg, _value(keyword.value, names)) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        pairs = [
            (getattr(key, "value", None), _value(value, names))
            for key, value in zip(node.keys, node.values, strict=True)
        ]
    else:
        return None
    found: dict[str, Any] = {}
    for key, value in pairs:
        found |= (value if isinstance(value, dict) else {}) if key is None else {key: value}
    return found


def _types(value: Any) -> Iterator[str]:
    """Yields the values of all keys `type` in a config."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _types(item)
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        yield value["type"]
