"""Parses .py configs, and rewrites their code so that dicts record the lines of their keys."""

import ast
import warnings
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

from footplate.config.imports import is_standard
from footplate.config.sources import references_in
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

BASE = "_base_"
# Functions that the rewritten code calls.
MAKE_DICT = "__footplate_dict__"
FILL = "__footplate_fill__"
IMPORT = "__footplate_import__"
INHERIT = "__footplate_inherit__"

Reader = tuple[str, Origin]
_MAX_LINE = 110
_Import = ast.Import | ast.ImportFrom


class Script(NamedTuple):
    """A parsed config.

    Attributes:
        code: The code to execute.
        base_lines: For each line that sets `_base_` to a list, the lines of the list's items.
        is_pure: Whether the config is a pure-Python config with lazy imports.
        reads: The variables of the config and its base that the code reads, with the key and line of each assignment or
            keyword that reads them.
    """

    code: CodeType
    base_lines: Mapping[int, list[int]]
    is_pure: bool
    reads: Mapping[str, set[Reader]]


@lru_cache(maxsize=1024)
def parse(path: str, text: str, *, pure: bool | None = None) -> Script:
    """Parses a .py config. The result is cached.

    Args:
        path: The path, for errors and origins.
        text: The text, after replacing placeholders.
        pure: Whether the config is a pure-Python config. Detected by default.

    Raises:
        ConfigSyntaxError: The text is not valid Python, or contains an import that configs do not support.
    """
    try:
        with warnings.catch_warnings():
            # Published configs contain invalid escapes such as "\d", for which newer Python versions issue warnings.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, path)
            pure = _is_pure(tree) if pure is None else pure
            rewriter = _Rewriter(path, pure=pure)
            rewriter.visit(tree)
            code = compile(tree, path, "exec", dont_inherit=True)
    except ConfigError:
        raise
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        raise ConfigSyntaxError(
            f"the config is not valid Python: {getattr(error, 'msg', error)}",
            origin=Origin(path, getattr(error, "lineno", None) or 0),
            notes=[line.strip()[:_MAX_LINE]] if (line := getattr(error, "text", None)) else (),
        ) from error
    return Script(code, rewriter.base_lines, pure, rewriter.reads)


def _is_pure(tree: ast.Module) -> bool:
    """Checks whether a config is a pure-Python config.

    Such a config uses `read_base`, or has no `_base_` and imports modules that are not in the standard library, except
    for `Config`, with which it reads other configs. As in MMEngine, only top-level statements count.
    """
    if any(isinstance(node, ast.With) and _is_read_base(node) for node in tree.body):
        return True
    imports = [node for node in tree.body if isinstance(node, _Import) and not _imports_config_class(node)]
    names = (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return not all(map(_imports_standard, imports)) and BASE not in names


def _imports_standard(node: _Import) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and is_standard(node.module or "")
    return all(is_standard(alias.name) for alias in node.names)


def _imports_config_class(node: _Import) -> bool:
    is_config_module = isinstance(node, ast.ImportFrom) and node.module in ("mmengine", "mmengine.config", "mmcv")
    return is_config_module and [alias.name for alias in node.names] == ["Config"]


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "read_base"


class _Rewriter(ast.NodeTransformer):
    """Rewrites the code of a config in place.

    - `dict(...)` and `{...}` become calls to `MAKE_DICT`, with the lines of the dict and its keys.
    - Names and strings that refer to the base become calls to `FILL`.
    - In a pure-Python config, imports become calls to `IMPORT`, and imports in `with read_base():` become calls to
      `INHERIT`. Imports inside functions and classes remain, and so does `import` of standard library modules.

    Attributes:
        reads: See `Script`.
        base_lines: See `Script`.
    """

    def __init__(self, path: str, *, pure: bool) -> None:
        self.path = path
        self.reads: defaultdict[str, set[Reader]] = defaultdict(set)
        self.base_lines: dict[int, list[int]] = {}
        self._reader: Reader = "", Origin(path, 0)
        self._rewrites_imports = pure

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self.reads[node.id].add(self._reader)
        return self._filled(node, node.id)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:  # noqa: N802
        return self._filled(node, node.value) if isinstance(node.value, str) else node

    def _filled(self, node: ast.expr, text: str) -> ast.expr:
        references = references_in(text)
        for reference in references:
            self.reads[reference.split(".")[0]].add(self._reader)
        return _call(node, FILL, text, node.lineno) if references else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:  # noqa: N802
        if isinstance(node.value, ast.Name) and node.value.id == BASE:
            self.reads[node.attr].add(self._reader)
        return self.generic_visit(node)

    def visit(self, node: ast.AST) -> Any:
        outside = self._reader
        match node:
            case ast.keyword(arg=str(key)) | ast.Assign(targets=[ast.Name(id=key)]):
                self._reader = key, Origin(self.path, node.lineno)
                if key == BASE and isinstance(items := getattr(node, "value", None), (ast.List, ast.Tuple)):
                    self.base_lines[node.lineno] = [item.lineno for item in items.elts]
        visited = super().visit(node)
        self._reader = outside
        return visited

    def visit_Call(self, node: ast.Call) -> ast.expr:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "dict":
            lines = [(keyword.arg, keyword.lineno) for keyword in node.keywords if keyword.arg]
            call = _call(node, MAKE_DICT, node.lineno, tuple(lines))
            call.args += node.args
            call.keywords = node.keywords
            return call
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.expr:  # noqa: N802
        self.generic_visit(node)
        lines = [(key.value, key.lineno) for key in node.keys if isinstance(key, ast.Constant)]
        call = _call(node, MAKE_DICT, node.lineno, tuple(lines))
        call.args.append(node)
        return call

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:  # noqa: N802
        outside = self._rewrites_imports
        self._rewrites_imports = False
        self.generic_visit(node)
        self._rewrites_imports = outside
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_Import(self, node: ast.Import) -> ast.stmt | list[ast.stmt]:  # noqa: N802
        if not self._rewrites_imports or _imports_standard(node):
            return node
        statements = []
        for alias in node.names:
            target = alias.name if alias.asname else alias.name.split(".")[0]
            statements.append(_statement(node, IMPORT, alias.asname or target, target))
        return statements

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:  # noqa: N802
        if not self._rewrites_imports:
            return node
        if node.names[0].name == "*":
            message = "`from ... import *` is allowed only inside `with read_base():`"
            raise ConfigSyntaxError(message, origin=Origin(self.path, node.lineno))
        prefix = "." * node.level + (f"{node.module}." if node.module else "")
        statements = [
            _statement(node, IMPORT, alias.asname or alias.name, prefix + alias.name)
            for alias in node.names
            if alias.name != "read_base"
        ]
        return statements or ast.copy_location(ast.Pass(), node)

    def visit_With(self, node: ast.With) -> Any:  # noqa: N802
        if not self._rewrites_imports or not _is_read_base(node):
            return self.generic_visit(node)
        statements = []
        for child in node.body:
            if not isinstance(child, ast.ImportFrom) or not child.module:
                message = "`with read_base():` may contain only imports such as `from .file import *`"
                raise ConfigSyntaxError(message, origin=Origin(self.path, child.lineno))
            names = tuple((alias.name, alias.asname or alias.name) for alias in child.names)
            statements.append(_statement(child, INHERIT, child.level, child.module, names))
        return statements


def _call(node: ast.expr | ast.stmt, function: str, *constants: Any) -> ast.Call:
    """Returns the syntax tree of a call with constant arguments, at the position of `node`."""
    call = ast.Call(ast.Name(function, ast.Load()), [ast.Constant(value) for value in constants], [])
    for part in (call, call.func, *call.args):
        ast.copy_location(part, node)
    return call


def _statement(node: ast.stmt, function: str, *constants: Any) -> ast.stmt:
    """Returns the syntax tree of a call statement whose arguments are constants and the line number of `node`."""
    return ast.copy_location(ast.Expr(_call(node, function, *constants, node.lineno)), node)
