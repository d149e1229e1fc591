"""Parses a .py config and rewrites its code, so that each dict it creates records the lines of its keys."""

import ast
import traceback
import warnings
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

from footplate.config.imports import is_standard
from footplate.config.origins import Place
from footplate.config.sources import references_in
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

BASE = "_base_"
# Functions that the rewritten code calls.
MAKE_DICT = "__footplate_dict__"
FILL_STRING = "__footplate_fill__"
IMPORT = "__footplate_import__"
INHERIT = "__footplate_inherit__"

KeyLines = dict[object, Origin]
_LOAD = ast.Load()


class Script(NamedTuple):
    """A parsed config.

    Attributes:
        code: The code to execute.
        key_lines: The lines of each dict's keys, indexed by the number that `MAKE_DICT` receives.
        bases: The files in `_base_`, with their lines.
        pure: Whether the config is a pure-Python config with lazy imports.
        references: Maps the index of each reference to the base to the line on which it occurs.
        reads: The variables of the config and its base that the code reads.
    """

    code: CodeType
    key_lines: list[KeyLines]
    bases: list[tuple[str, Origin]]
    pure: bool
    references: dict[int, int]
    reads: frozenset[str]


@lru_cache(maxsize=1024)
def parse(path: str, text: str, *, pure: bool | None = None) -> Script:
    """Parses a config, or returns the cached result for the same text.

    Args:
        path: The path, for errors and origins.
        text: The text, with placeholders replaced.
        pure: Whether the config is a pure-Python config. By default, this is detected.

    Raises:
        ConfigSyntaxError: The text is not valid Python.
    """
    try:
        with warnings.catch_warnings():
            # Published configs contain invalid escapes such as "\d", which newer Python versions warn about.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, path)
            bases = _take_bases(tree, path)
            pure = _is_pure(tree, has_base=bases is not None) if pure is None else pure
            rewriter = _Rewriter(path, pure=pure)
            rewriter.visit(tree)
            code = compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        code_line = (error.text or "").strip()
        notes = [f"in: {code_line[:100]}"] if code_line else []
        place = Place(path, error.lineno or 1)
        raise ConfigSyntaxError(f"the text is not valid Python: {error.msg}", origin=place, notes=notes) from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigSyntaxError(f"the text is not valid Python: {error}", origin=Place(path, 1)) from error
    except (RecursionError, MemoryError) as error:
        raise ConfigSyntaxError("the config is nested too deeply", origin=Place(path, 1)) from error
    return Script(code, rewriter.key_lines, bases or [], pure, rewriter.references, frozenset(rewriter.reads))


def _take_bases(tree: ast.Module, path: str) -> list[tuple[str, Origin]] | None:
    """Removes the statements that set `_base_`. Returns the base files, or None if there is no such statement."""
    values: list[ast.expr] = []
    kept: list[ast.stmt] = []
    before: list[ast.stmt] = []
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="_base_")], value=value):
                values.append(value)
            case ast.AnnAssign(target=ast.Name(id="_base_"), value=ast.expr() as annotated):
                values.append(annotated)
            case _:
                kept.append(statement)
                if not values:
                    before.append(statement)
    tree.body = kept
    if not values:
        return None
    value = values[0]
    files: list[tuple[Any, Origin]]
    if isinstance(value, (ast.List, ast.Tuple)) and all(isinstance(item, ast.Constant) for item in value.elts):
        files = [(item.value, Place(path, item.lineno)) for item in value.elts if isinstance(item, ast.Constant)]
    else:
        origin = Place(path, value.lineno)
        found = _evaluate_bases(value, before, origin)
        files = [(item, origin) for item in (found if isinstance(found, (list, tuple)) else [found])]
    for name, place in files:
        if not isinstance(name, str):
            raise ConfigError("`_base_` must be a path or a list of paths", origin=place, key=BASE, found=name)
    return files


def _evaluate_bases(value: ast.expr, before: list[ast.stmt], origin: Place) -> Any:
    """Returns the value of `_base_`, which may use the variables that the statements before it set."""
    names: dict[str, Any] = {}
    try:
        if any(isinstance(node, ast.Name) for node in ast.walk(value)):
            exec(compile(ast.Module(before, []), origin.file, "exec", dont_inherit=True), names)
        return eval(compile(ast.Expression(value), origin.file, "eval", dont_inherit=True), names)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == origin.file]
        raise ConfigError(
            f"`_base_` cannot be evaluated: {type(error).__name__}: {error} "
            "(it can use only the variables set before it)",
            origin=Place(origin.file, (lines[-1] if lines else None) or origin.line),
            key=BASE,
        ) from error


def _is_pure(tree: ast.Module, *, has_base: bool) -> bool:
    """Checks whether a config is a pure-Python config.

    Such a config uses `read_base`, or it has no `_base_` and imports modules that are not in the standard library.
    """
    imports_others = False
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.With) and _is_read_base(node):
            return True
        if isinstance(node, ast.Import):
            imports_others = imports_others or any(not is_standard(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports_others = imports_others or node.level > 0 or not is_standard(node.module or "")
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            waiting += ast.iter_child_nodes(node)
    return imports_others and not has_base


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "read_base"


class _Rewriter(ast.NodeTransformer):
    """Rewrites the code of a config, in place.

    - `dict(...)`, `{...}` and dict comprehensions become calls to `MAKE_DICT`. Each call receives the index of its
      lines in `key_lines`, and the dicts that `**` unpacks into it.
    - Strings with references to the base become calls to `FILL_STRING`.
    - In a pure-Python config, imports become calls to `IMPORT`, or to `INHERIT` in `with read_base():`, except inside
      functions and classes.

    Attributes:
        key_lines: The lines of each dict's keys.
        references: Maps the index of each reference to the base to the line on which it occurs.
        reads: The variables of the config and its base that the code reads.
    """

    def __init__(self, path: str, *, pure: bool = False) -> None:
        self.path = path
        self.key_lines: list[KeyLines] = []
        self.references: dict[int, int] = {}
        self.reads: set[str] = set()
        self._rewrites_imports = pure

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self.reads.add(node.id)
        self._add_references(node.id, node.lineno)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:  # noqa: N802
        if isinstance(node.value, ast.Name) and node.value.id == BASE:
            self.reads.add(node.attr)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:  # noqa: N802
        if isinstance(node.value, ast.Name) and node.value.id == BASE and isinstance(node.slice, ast.Constant):
            self.reads.add(str(node.slice.value))
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:  # noqa: N802
        if isinstance(node.value, str) and self._add_references(node.value, node.lineno):
            return _call(node, FILL_STRING, _constant(node.value, node))
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:  # noqa: N802
        self.generic_visit(node)
        node.values = [
            ast.copy_location(ast.FormattedValue(each, -1), each) if isinstance(each, ast.Call) else each
            for each in node.values
        ]
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "dict":
            lines = {keyword.arg: keyword.lineno for keyword in node.keywords if keyword.arg}
            unpacked = [keyword.value for keyword in node.keywords if keyword.arg is None]
            node.func.id = MAKE_DICT
            node.args[:0] = self._origin_arguments(node, lines, unpacked)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.expr:  # noqa: N802
        self.generic_visit(node)
        lines = {key.value: key.lineno for key in node.keys if isinstance(key, ast.Constant)}
        unpacked = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
        return _call(node, MAKE_DICT, *self._origin_arguments(node, lines, unpacked), node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:  # noqa: N802
        self.generic_visit(node)
        return _call(node, MAKE_DICT, *self._origin_arguments(node, {}, []), node)

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:  # noqa: N802
        outside, self._rewrites_imports = self._rewrites_imports, False
        self.generic_visit(node)
        self._rewrites_imports = outside
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_Import(self, node: ast.Import) -> ast.stmt | list[ast.stmt]:  # noqa: N802
        if not self._rewrites_imports:
            return node
        statements = []
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            if not alias.asname and is_standard(alias.name):
                # `import os.path` must load the submodule, although it binds `os`.
                statements.append(_statement(node, IMPORT, bound, alias.name))
            statements.append(_statement(node, IMPORT, bound, alias.name if alias.asname else bound))
        return statements

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:  # noqa: N802
        if not self._rewrites_imports:
            return node
        statements = []
        prefix = "." * node.level + (f"{node.module}." if node.module else "")
        for alias in node.names:
            if alias.name == "*":
                raise self._error(node, "`from ... import *` is allowed only inside `with read_base():`")
            if alias.name != "read_base":
                statements.append(_statement(node, IMPORT, alias.asname or alias.name, prefix + alias.name))
        return statements or [ast.copy_location(ast.Pass(), node)]

    def visit_With(self, node: ast.With) -> Any:  # noqa: N802
        if not self._rewrites_imports or not _is_read_base(node):
            return self.generic_visit(node)
        statements = []
        for child in node.body:
            if isinstance(child, ast.Pass):
                continue
            if not isinstance(child, ast.ImportFrom) or not child.module:
                raise self._error(child, "`with read_base():` may contain only `from .file import ...`")
            names = tuple((alias.name, alias.asname or alias.name) for alias in child.names)
            statements.append(_statement(child, INHERIT, child.level, child.module, names))
        return statements or [ast.copy_location(ast.Pass(), node)]

    def _add_references(self, text: str, line: int) -> bool:
        numbers = references_in(text) if "__footplate_base_" in text else []
        for number in numbers:
            self.references.setdefault(number, line)
        return bool(numbers)

    def _origin_arguments(self, node: ast.expr, lines: dict[Any, int], unpacked: list[ast.expr]) -> list[ast.expr]:
        """Returns the first two arguments of `MAKE_DICT`: an index into `key_lines`, and a tuple of unpacked dicts."""
        places: KeyLines = {key: Place(self.path, line) for key, line in lines.items()}
        self.key_lines.append(places | {None: Place(self.path, node.lineno)})
        sources = []
        for each in unpacked:
            root: ast.expr = each
            while isinstance(root, ast.Attribute) or (
                isinstance(root, ast.Subscript) and isinstance(root.slice, ast.Constant)
            ):
                root = root.value
            if isinstance(root, ast.Name):  # only names and lookups in them can be evaluated twice
                sources.append(each)
        return [
            ast.copy_location(ast.Constant(len(self.key_lines) - 1), node),
            ast.copy_location(ast.Tuple(sources, _LOAD), node),
        ]

    def _error(self, node: ast.stmt, reason: str) -> ConfigSyntaxError:
        return ConfigSyntaxError(reason, origin=Place(self.path, node.lineno))


def _call(node: ast.expr | ast.stmt, function: str, *arguments: ast.expr) -> ast.expr:
    name = ast.copy_location(ast.Name(function, _LOAD), node)
    return ast.copy_location(ast.Call(name, list(arguments), []), node)


def _constant(value: Any, node: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Constant(value), node)


def _statement(node: ast.stmt, function: str, *arguments: Any) -> ast.stmt:
    """Returns a statement that calls a function with the given constants and the line of `node`."""
    constants = [_constant(argument, node) for argument in (*arguments, node.lineno)]
    return ast.copy_location(ast.Expr(_call(node, function, *constants)), node)
