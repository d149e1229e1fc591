"""Skips failing imports, so that the rest of the code remains usable. Skipped names become placeholders.

In a code base, these are failing imports from the code base itself; in a user's copy of one, only those that fail
because of another package. In modules under the current folder, these are imports of packages that are not installed,
and of the repository's compiled modules that are not built.
"""

import ast
import importlib
import importlib.util
import linecache
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any, NoReturn, Union

import torch

from footplate.advice import BROKEN_PACKAGES, DISTRIBUTIONS, advice_about
from footplate.errors import ConfigError, FootplateError, shown_path
from footplate.extensions import known_packages
from footplate.messages import describe_exception
from footplate.registry.dotted_paths import is_footplate_alias, is_user_module, module_exists
from footplate_openmmlab.requirements import explain_failed_import

_logger = logging.getLogger("footplate.openmmlab")
_CAUSES = {
    "localizers.drn": "The wheel of mmaction2 lacks this folder.",
    "from 'transformers": "It needs an older version of transformers: pip install 'transformers<4.52'.",
    "CudaSupportError": "It needs numba with CUDA.",
}
_IMPORTED = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+(\w[\w., \t]*))", re.MULTILINE)
_COMPILED = re.compile(r"\w+_(?:ext|cuda)")
_IMPORTS_COMPILED = re.compile(rf"^[ \t]*from[ \t]+[\w.]+[ \t]+import\b.*\b{_COMPILED.pattern}\b", re.MULTILINE)
skipped: dict[str, str] = {}
"""Maps each name that could not be imported from a code base to the reason."""
missing: dict[str, list[str]] = {}
"""Maps each missing package to the files under the current folder that import it."""


class MissingPackageError(ConfigError, ImportError):
    """Raised if a package that an installed code base imports is missing or broken, or a missing package is used."""


def skip_failed_imports(tree: ast.Module, package: str, *, is_copy: bool = False) -> dict[str, Any]:
    """Modifies the syntax tree of a package's `__init__.py` so that failing imports from the package are skipped.

    Names that cannot be imported become placeholders.

    Args:
        tree: The syntax tree.
        package: The name of the package.
        is_copy: Whether it is a user's copy, whose own mistakes are errors.

    Returns:
        The values that the modified code needs in the package's namespace, keyed by name.
    """
    for index, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or str(node.module).startswith(f"{package}.")):
            names = [alias.asname or alias.name for alias in node.names]
            tree.body[index] = _guard(node, "Exception", f"_footplate_skip(_footplate_error, {package!r}, {names})")
    return {"_footplate_skip": partial(_skip, is_copy=is_copy)}


def _skip(error: Exception, package: str, names: Sequence[str], *, is_copy: bool) -> dict[str, type]:
    """Records the error that caused an import to be skipped, and returns placeholders for the imported names.

    Raises:
        MissingPackageError: Installing packages would fix the error.
    """
    top = package.partition(".")[0]
    missing_module = str(error.name) if isinstance(error, ModuleNotFoundError) else top
    is_missing = missing_module.partition(".")[0] != top
    if isinstance(error, FootplateError):
        raise error
    place, cause = _explain(error, top)
    if is_copy and (cause is None or is_missing):
        raise error
    advice = advice_about(error, BROKEN_PACKAGES)
    if is_missing or advice:
        notes = explain_failed_import(top)
        if not is_missing or missing_module not in " ".join(notes):
            notes = [*advice, *notes]
        message = f"'{package}' cannot be imported: {describe_exception(error).rstrip('.')}"
        raise MissingPackageError(message, notes=notes) from error
    cause = cause or error
    text = f"{describe_exception(cause).rstrip('.')}{place}."
    reason = " ".join([text, *advice_about(cause, BROKEN_PACKAGES | _CAUSES)])
    # A placeholder states the reason when it is used; "*" has none.
    level = logging.WARNING if "*" in names and reason not in skipped.values() else logging.DEBUG
    _logger.log(level, "Skipped the import of %s from '%s': %s", ", ".join(names), package, reason)
    skipped.update(dict.fromkeys(names, reason))
    message = "'{}' could not be imported: " + reason
    return {name: placeholder(name, package, message.format(name)) for name in names if name != "*"}


def _explain(error: Exception, top: str) -> tuple[str, Exception | None]:
    """Returns where in a package an error occurred, and the error of another package that caused it, or None."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [each for each in frames if str(each[0].f_globals.get("__name__")).partition(".")[0] == top]
    if not own:
        return "", error
    frame, line = own[-1]
    place = f" ({shown_path(frame.f_code.co_filename)}:{line})"
    if isinstance(error, ImportError) and error.name:
        return place, None if error.name.partition(".")[0] == top or is_user_module(error.name) else error
    return place, error if frames[-1][0] is not frame else _hidden_error(frame)


def _hidden_error(frame: FrameType) -> Exception | None:
    """Returns the error of an import that a module hides with `try`, such as one after which a base class is None."""
    source = "".join(linecache.getlines(frame.f_code.co_filename))
    tries = [node.body for node in ast.parse(source).body if isinstance(node, ast.Try)]
    for node in (node for body in tries for node in body if isinstance(node, ast.Import | ast.ImportFrom)):
        try:
            exec(compile(ast.Module([node], []), frame.f_code.co_filename, "exec"), dict(frame.f_globals))
        except Exception as error:
            return error
    return None


def _guard(node: ast.Import | ast.ImportFrom, error: str, names: str) -> ast.stmt:
    """Returns a statement that executes an import.

    Args:
        node: The import.
        error: The class of the errors that are caught.
        names: The code of a dict with the names to define after an error, `_footplate_error`.
    """
    guarded = ast.parse(f"try: pass\nexcept {error} as _footplate_error: globals().update({names})")
    ast.increment_lineno(guarded, node.lineno - 1)
    statement = guarded.body[0]
    statement.body = [node]  # type: ignore[attr-defined]
    return statement


def imports_missing(source: str) -> bool:
    """Checks whether code imports a package that is not installed, or a name like that of a compiled module."""
    imported = {name for one, more in _IMPORTED.findall(source) for name in (one, *more.split(","))}
    tops = {name.strip().partition(" ")[0].partition(".")[0] for name in imported}
    return any(map(_is_missing, tops)) or _IMPORTS_COMPILED.search(source) is not None


def _is_missing(top: str) -> bool:
    """Checks whether a package is not installed. OpenMMLab's packages and the standard library do not count."""
    if not top or top in sys.stdlib_module_names or top in known_packages():
        return False
    if top in sys.modules:
        return is_footplate_alias(getattr(sys.modules[top], "__spec__", None))
    return importlib.util.find_spec(top) is None


class _MissingImports(ast.NodeTransformer):
    """Guards the imports of missing packages, except in functions, and in `try` statements, which handle errors."""

    def visit(self, node: ast.AST) -> Any:
        is_entered = isinstance(node, ast.Module | ast.If | ast.With | ast.Import | ast.ImportFrom)
        return super().visit(node) if is_entered else node

    def visit_Import(self, node: ast.Import) -> ast.stmt | list[ast.stmt]:
        guarded = []
        for alias in node.names:
            top = alias.name.partition(".")[0]
            names = {alias.asname: alias.name} if alias.asname else {top: top}
            single = ast.copy_location(ast.Import([alias]), node)
            guarded.append(self._guard(single, names) if _is_missing(top) else single)
        return guarded

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        home = "." * node.level + (node.module or "")
        names = {each.asname or each.name: f"{home}.{each.name}".lstrip(".") for each in node.names}
        top = home.partition(".")[0]
        is_own = node.level or is_user_module(top)
        is_missing = _COMPILED.search(" ".join(names.values())) if is_own else _is_missing(top)
        return self._guard(node, names) if is_missing and "*" not in names else node

    def _guard(self, node: ast.Import | ast.ImportFrom, names: Mapping[str, str]) -> ast.stmt:
        return _guard(node, "ImportError", f"_footplate_missing(_footplate_error, {names})")


def skip_missing_imports(tree: ast.Module, file: str) -> dict[str, Any]:
    """Modifies the syntax tree of a module so that imports of missing packages define placeholders.

    The same holds for the repository's own compiled modules. Imports in functions and `try` statements are unchanged.

    Args:
        tree: The syntax tree.
        file: The path of the module.

    Returns:
        The values that the modified code needs in the module's namespace, keyed by name.
    """
    _MissingImports().visit(tree)

    def replace(error: ImportError, names: Mapping[str, str]) -> dict[str, _Missing]:
        top = (error.name or "").partition(".")[0]
        compiled = next((name for name in _COMPILED.findall(" ".join(names.values())) if f"{name}'" in str(error)), "")
        if not compiled and not (isinstance(error, ModuleNotFoundError) and _is_missing(top)):
            raise error
        is_compiled = bool(compiled) or _is_built_by(top, file)
        return {name: _missing(path, compiled or top, file, is_compiled) for name, path in names.items()}

    return {"_footplate_missing": replace}


def _missing(path: str, package: str, file: str, is_compiled: bool) -> "_Missing":
    """Creates the placeholder for an object of a missing package, and records the package in `missing`."""
    place = shown_path(file)
    problem = f"'{package}' is not installed"
    title = DISTRIBUTIONS.get(package, package)
    advice = f"Install the package, usually with `pip install {title}`, or use a config that does not need it."
    if folder := _folder_with(package):
        problem = f"'{package}' is in {folder}/, which Python does not search"
        advice = f"Add the folder to the search path: PYTHONPATH={folder}"
    if is_compiled:
        problem = f"the compiled module '{package}' of this repository is not built"
        advice = "footplate has no PyTorch version of it."
    places = missing.setdefault(package, [])
    places += [place] if place not in places else []
    kind: type[_Missing] = type(f"missing_{package}", (_Missing,), {})  # errors of other code name the class
    return kind(path, f"{problem}, and {place} uses", advice)


def _folder_with(package: str) -> str:
    """Returns the subfolder of the current folder that contains a package or module, or "" if there is none."""
    folders = sorted(file.parent.parent for file in Path().glob(f"*/{package}/__init__.py"))
    folders += sorted(file.parent for file in Path().glob(f"*/{package}.py"))
    return folders[0].as_posix() if folders else ""


def load_extension(name: str, sources: str | list[str], *args: Any, **kwargs: Any) -> Any:
    """Compiles an extension of torch. Without a GPU, sources for CUDA are not compiled.

    Returns:
        The extension, the one that footplate has under this name, or an object that raises an error when it is used.
    """
    files = [sources] if isinstance(sources, str) else sources
    if torch.cuda.is_available() or not any(str(file).endswith(".cu") for file in files):
        from torch.utils.cpp_extension import load  # looks for a compiler

        return load(name, sources, *args, **kwargs)
    if module_exists(name):
        return importlib.import_module(name)
    return _missing(name, name, sys._getframe(1).f_code.co_filename, True)


def describe_missing() -> str:
    """Lists the missing packages, each with the first file that imports it. Returns "" if nothing is missing."""
    packages = ", ".join(f"{package} ({places[0]})" for package, places in sorted(missing.items()))
    return f"Not installed, which is an error only where they are used: {packages}" if packages else ""


def _is_built_by(name: str, file: str) -> bool:
    """Checks whether a `setup.py` in a folder of the file, or in a folder above it, names a compiled module."""
    folders = [folder for folder in Path(os.path.abspath(file)).parents if folder.is_relative_to(os.getcwd())]
    scripts = [script for folder in folders if (script := folder / "setup.py").is_file()]
    quoted = re.compile(rf"""['"](?:[\w.]+[.])?{re.escape(name)}['"]""")
    return any(quoted.search(script.read_text("utf-8", "replace")) for script in scripts)


class _Missing:
    """What code imports from a missing package.

    Its attributes are objects of this class, too. It can be a base class, an annotation, the class in `isinstance`, or
    a default value. Every other use raises an error. While a module is being imported, calls and arithmetic return such
    objects instead, because the results may never be used, as in `@registry.register()`.

    Args:
        path: The dotted path of the object in the package.
        problem: What is missing and which file uses it.
        advice: What to do.
    """

    def __init__(self, path: str, problem: str, advice: str) -> None:
        self.__path, self.__problem, self.__advice = path, problem, advice

    def __reduce__(self) -> tuple[Any, ...]:
        return _Missing, (self.__path, self.__problem, self.__advice)

    def __fail(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MissingPackageError(f"{self.__problem} '{self.__path}'", notes=[self.__advice])

    __bool__ = __contains__ = __enter__ = __float__ = __index__ = __int__ = __iter__ = __len__ = __fail
    __ge__ = __gt__ = __le__ = __lt__ = __setitem__ = __fail
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        is_type = isinstance(other, type | _Missing) or type(other).__module__ == "typing"
        return self is other if is_type else self.__fail()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _is_importing():
            self.__fail()
        match args:
            case [type() | FunctionType() as decorated]:
                return _failing(decorated.__qualname__, decorated.__module__, self.__fail)
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __call__
    __pow__ = __matmul__ = __neg__ = __invert__ = __call__

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007 - `|` would call this method

    def __ror__(self, other: Any) -> Any:
        return Union[other, self]  # noqa: UP007

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":  # which code compares when it is imported, to choose between imports
            return "0.0.0"
        if name.startswith("__"):
            raise AttributeError(f"'{self.__path}' has no '{name}'")
        return type(self)(f"{self.__path}.{name}", self.__problem, self.__advice)

    def __getitem__(self, item: Any) -> "_Missing":
        return self

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __subclasscheck__(self, subclass: type) -> bool:
        return False

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (_failing(self.__path.rpartition(".")[2], __name__, self.__fail),)


def _is_importing() -> bool:
    """Checks whether the code that is running was called by the import of a module."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        is_module = frame.f_code.co_name == "<module>"
        if is_module and getattr(frame.f_globals.get("__spec__"), "_initializing", False):
            return True
        frame = frame.f_back
    return False


def placeholder(name: str, module: str, message: str) -> type:
    """Returns a class that raises a ConfigError when an instance is created."""

    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigError(message)

    return _failing(name, module, fail)


def _failing(name: str, module: str, fail: Callable[..., NoReturn]) -> type:
    return type(name, (), {"__new__": fail, "__module__": module, "__qualname__": name})


def unsupported(name: str, module: str, advice: str) -> type:
    """Returns a placeholder for a name that footplate does not support. `advice` says what to use or do instead."""
    return placeholder(name, module, f"footplate does not support '{name}': {advice}")
