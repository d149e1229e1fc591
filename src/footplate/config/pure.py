"""Pure-Python configs: imports become lazy names, and `with read_base():` loads the bases."""

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from footplate.config.lazy import LazyObject
from footplate.config.origins import Place
from footplate.errors import ConfigSyntaxError, Origin

IMPORT = "__footplate_import__"
INHERIT = "__footplate_inherit__"


@contextmanager
def read_base() -> Iterator[None]:
    """Marks the imports that are bases of a pure-Python config.

    The config is parsed rather than imported, so this function never runs there. It exists for editors and linters.

    Example:
        ```python
        with read_base():
            from .._base_.default_runtime import *
        ```
    """
    yield


def is_pure(tree: ast.Module, *, has_base: bool) -> bool:
    """Checks for a pure-Python config: it uses `read_base`, or has no `_base_` and imports non-standard modules."""
    found = False
    for node in _outside_functions(tree):
        if isinstance(node, ast.With) and _is_read_base(node):
            return True
        if isinstance(node, ast.Import):
            found = found or any(not is_standard(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found = found or node.level > 0 or not is_standard(node.module or "")
    return found and not has_base


def is_standard(module: str) -> bool:
    """Checks whether a module is in the standard library."""
    return module.split(".")[0] in sys.stdlib_module_names


def import_lazily(path: str, origin: Origin) -> Any:
    """Returns the value of an import in a pure-Python config: the object for a standard module, else a lazy name.

    Raises:
        ConfigSyntaxError: If the standard library has no such name.
    """
    if not is_standard(path):
        return LazyObject(path, origin)
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ImportError as error:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            raise ConfigSyntaxError(f"Python has no '{path}'", origin=origin) from error


def rewrite_imports(tree: ast.Module, path: str) -> ast.Module:
    """Rewrites the imports of a pure-Python config, except inside functions and classes.

    Raises:
        ConfigSyntaxError: If an import cannot be lazy, or `read_base` contains anything but imports of names.
    """
    rewritten: ast.Module = _ImportRewriter(path).visit(tree)
    return rewritten


def _outside_functions(tree: ast.Module) -> Iterator[ast.stmt]:
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.If, ast.For, ast.While, ast.With, ast.Try)):
            for name in ("body", "orelse", "finalbody", "handlers"):
                for child in getattr(node, name, []):
                    waiting += child.body if isinstance(child, ast.ExceptHandler) else [child]


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "read_base"


class _ImportRewriter(ast.NodeTransformer):
    def __init__(self, path: str) -> None:
        self.path = path

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # noqa: N802
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # noqa: N802
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:  # noqa: N802
        statements = []
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            target = alias.name if alias.asname else bound
            if not alias.asname and is_standard(alias.name):
                # `import os.path` must load the submodule, although it binds `os`.
                statements.append(_call(node, IMPORT, bound, alias.name, node.lineno))
            statements.append(_call(node, IMPORT, bound, target, node.lineno))
        return statements

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:  # noqa: N802
        statements = []
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name == "*":
                raise self._error(node, "`from ... import *` is for `with read_base():` only")
            if alias.name != "read_base":
                dotted = f"{module}{'' if module.endswith('.') else '.'}{alias.name}"
                statements.append(_call(node, IMPORT, alias.asname or alias.name, dotted, node.lineno))
        return statements or [ast.copy_location(ast.Pass(), node)]

    def visit_With(self, node: ast.With) -> Any:  # noqa: N802
        if not _is_read_base(node):
            return self.generic_visit(node)
        statements = []
        for child in node.body:
            if isinstance(child, ast.Pass):
                continue
            if not isinstance(child, ast.ImportFrom) or not child.module:
                raise self._error(child, "`with read_base():` holds only `from .file import ...`")
            names = tuple((alias.name, alias.asname or alias.name) for alias in child.names)
            statements.append(_call(child, INHERIT, child.level, child.module, names, child.lineno))
        return statements or [ast.copy_location(ast.Pass(), node)]

    def _error(self, node: ast.stmt, reason: str) -> ConfigSyntaxError:
        return ConfigSyntaxError(reason, origin=Place(self.path, node.lineno))


def _call(node: ast.stmt, function: str, *arguments: Any) -> ast.stmt:
    call = ast.Call(
        ast.Name(function, ast.Load()),
        [ast.Constant(argument) for argument in arguments],
        [],
    )
    return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))
