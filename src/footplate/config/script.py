"""Parsing a .py config so that every dict it makes knows its lines."""

import ast
import warnings
from collections import OrderedDict
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from footplate.config import templates
from footplate.config.origins import Place
from footplate.config.pure import is_pure, rewrite_imports
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

BASE = "_base_"
MAKE_DICT = "__footplate_dict__"
_MOST_CACHED = 1024

Site = dict[object, Origin]


class Script(NamedTuple):
    """A parsed config.

    Attributes:
        code: What to execute; it makes dicts through the function named `MAKE_DICT`.
        sites: The lines of each dict's keys, by the number that `MAKE_DICT` is given.
        bases: The files named by `_base_`, each with its line.
        pure: Whether the config is in pure Python, so that its imports are lazy.
        references: The numbers of the base paths in use, each with its line.
        reads: The variables, its own and of the base, that its code reads.
    """

    code: CodeType
    sites: list[Site]
    bases: list[tuple[str, Origin]]
    pure: bool
    references: dict[int, int]
    reads: frozenset[str]


_parsed: "OrderedDict[tuple[str, str, bool | None], Script]" = OrderedDict()


def parse(path: str, text: str, *, pure: bool | None = None) -> Script:
    """Parses a config, or takes it from memory if this very text was parsed before.

    Args:
        path: The file, as errors and origins name it.
        text: Its text, with words in braces replaced.
        pure: Whether the config is in pure Python; None finds out.

    Raises:
        ConfigSyntaxError: If the text is no Python.
    """
    key = (path, text, pure)
    script = _parsed.get(key)
    if script is None:
        script = _parsed[key] = _parse(path, text, pure)
        if len(_parsed) > _MOST_CACHED:
            _parsed.popitem(last=False)
    return script


def _parse(path: str, text: str, pure: bool | None) -> Script:
    try:
        with warnings.catch_warnings():
            # Published configs hold strings such as "\d", which newer Pythons warn of.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, path)
            has_base = any(_base_value(statement) is not None for statement in tree.body)
            bases = _take_bases(tree, path)
            references = _resolve_references(tree) if "__footplate_base_" in text else {}
            pure = is_pure(tree, has_base=has_base) if pure is None else pure
            if pure:
                tree = rewrite_imports(tree, path)
            tracer = _Tracer(path)
            tracer.rewrite_children(tree)
            code = compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise syntax_error(error, path) from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigSyntaxError(f"cannot be parsed: {error}", origin=Place(path, 1)) from error
    except (RecursionError, MemoryError) as error:
        raise ConfigSyntaxError("the config is nested too deeply", origin=Place(path, 1)) from error
    return Script(code, tracer.sites, bases, pure, references, frozenset(tracer.reads))


def syntax_error(error: SyntaxError, path: str) -> ConfigSyntaxError:
    """Returns our error for one of Python's, with the line in question."""
    line = (error.text or "").strip()
    notes = [f"in: {line[:100]}"] if line else []
    return ConfigSyntaxError(f"not valid Python: {error.msg}", origin=Place(path, error.lineno or 1), notes=notes)


def _take_bases(tree: ast.Module, path: str) -> list[tuple[str, Origin]]:
    """Removes the statements that set `_base_` and returns the files that the first of them names."""
    values = [value for statement in tree.body if (value := _base_value(statement)) is not None]
    tree.body = [statement for statement in tree.body if _base_value(statement) is None]
    return _named_files(values[0], path) if values else []


def _base_value(statement: ast.stmt) -> ast.expr | None:
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return None
    if len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].id == BASE:
        return statement.value
    return None


def _named_files(value: ast.expr, path: str) -> list[tuple[str, Origin]]:
    origin = Place(path, value.lineno)
    if isinstance(value, (ast.List, ast.Tuple)) and all(isinstance(item, ast.Constant) for item in value.elts):
        found: Any = [(item.value, Place(path, item.lineno)) for item in value.elts if isinstance(item, ast.Constant)]
    else:
        found = _evaluated(value, path, origin)
        found = [(item, origin) for item in (found if isinstance(found, (list, tuple)) else [found])]
    for name, place in found:
        if not isinstance(name, str):
            raise ConfigError("`_base_` takes a path or a list of paths", origin=place, key=BASE, found=name)
    return list(found)


def _evaluated(value: ast.expr, path: str, origin: Origin) -> Any:
    if isinstance(value, ast.Constant):
        return value.value
    try:
        return eval(compile(ast.Expression(value), path, "eval", dont_inherit=True), {})
    except Exception as error:
        raise ConfigError(
            f"`_base_` is read before the rest of the file, and cannot be computed: {error}", origin=origin, key=BASE
        ) from error


def _resolve_references(tree: ast.Module) -> dict[int, int]:
    """Finds the base paths in use; in strings they become calls that fill the string."""
    found: dict[int, int] = {}

    def note(text: str, line: int) -> list[int]:
        numbers = templates.base_references(text)
        for number in numbers:
            found.setdefault(number, line)
        return numbers

    class Filler(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
            note(node.id, node.lineno)
            return node

        def visit_Constant(self, node: ast.Constant) -> ast.expr:  # noqa: N802
            if not isinstance(node.value, str) or not note(node.value, node.lineno):
                return node
            call = ast.Call(ast.Name(FILL_STRING, ast.Load()), [ast.Constant(node.value)], [])
            return ast.fix_missing_locations(ast.copy_location(call, node))

        def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:  # noqa: N802
            for index, part in enumerate(node.values):
                if isinstance(part, ast.Constant):
                    filled = self.visit_Constant(part)
                    if filled is not part:
                        wrapped = ast.FormattedValue(filled, -1, None)
                        node.values[index] = ast.fix_missing_locations(ast.copy_location(wrapped, part))
                else:
                    self.visit(part)
            return node

    Filler().visit(tree)
    return found


FILL_STRING = "__footplate_fill__"


class _Tracer:
    """Turns `dict(...)`, `{...}` and dict comprehensions into calls of `MAKE_DICT`, and notes their lines."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sites: list[Site] = []
        self.reads: set[str] = set()

    def rewrite_children(self, node: ast.AST) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            if type(value) is list:
                for index, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        value[index] = self.rewrite(item)
            elif isinstance(value, ast.AST):
                setattr(node, name, self.rewrite(value))

    def rewrite(self, node: ast.AST) -> Any:
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            return handler(self, node)
        self.rewrite_children(node)
        return node

    def leaf(self, node: Any) -> Any:
        return node

    def name(self, node: Any) -> Any:
        if type(node.ctx) is ast.Load:
            self.reads.add(node.id)
        return node

    def attribute(self, node: Any) -> Any:
        if type(node.value) is ast.Name and node.value.id == BASE:
            self.reads.add(node.attr)
        node.value = self.rewrite(node.value)
        return node

    def subscript(self, node: Any) -> Any:
        key = node.slice
        if type(node.value) is ast.Name and node.value.id == BASE and type(key) is ast.Constant:
            self.reads.add(str(key.value))
        self.rewrite_children(node)
        return node

    def call(self, node: Any) -> Any:
        for keyword in node.keywords:
            if type(keyword.value) is not ast.Constant:
                keyword.value = self.rewrite(keyword.value)
        for index, argument in enumerate(node.args):
            node.args[index] = self.rewrite(argument)
        if type(node.func) is ast.Name:
            if node.func.id == "dict":
                lines = {keyword.arg: keyword.lineno for keyword in node.keywords if keyword.arg}
                node.func.id = MAKE_DICT
                node.args.insert(0, self._site(node, lines))
            return node
        node.func = self.rewrite(node.func)
        return node

    def display(self, node: Any) -> Any:
        self.rewrite_children(node)
        lines = {key.value: key.lineno for key in node.keys if type(key) is ast.Constant}
        return self._wrapped(node, lines)

    def comprehension(self, node: Any) -> Any:
        self.rewrite_children(node)
        return self._wrapped(node, {})

    def _wrapped(self, node: ast.expr, lines: dict[Any, int]) -> ast.expr:
        name = ast.copy_location(ast.Name(MAKE_DICT, ast.Load()), node)
        return ast.copy_location(ast.Call(name, [self._site(node, lines), node], []), node)

    def _site(self, node: ast.expr, lines: dict[Any, int]) -> ast.expr:
        path = self.path
        site: Site = {None: Place(path, node.lineno)}
        for key, line in lines.items():
            if key is not None:
                site[key] = Place(path, line)
        self.sites.append(site)
        return ast.copy_location(ast.Constant(len(self.sites) - 1), node)


_HANDLERS: dict[type, Callable[[_Tracer, Any], Any]] = {
    ast.Constant: _Tracer.leaf,
    ast.Name: _Tracer.name,
    ast.Attribute: _Tracer.attribute,
    ast.Subscript: _Tracer.subscript,
    ast.Call: _Tracer.call,
    ast.Dict: _Tracer.display,
    ast.DictComp: _Tracer.comprehension,
}
