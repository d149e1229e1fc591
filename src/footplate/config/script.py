"""Parses a .py config so that each dict it creates records the lines of its keys."""

import ast
import warnings
from collections import OrderedDict
from types import CodeType
from typing import Any, NamedTuple

from footplate.config.origins import Place
from footplate.config.pure import is_pure, rewrite_imports
from footplate.config.references import resolve_references
from footplate.config.tracer import BASE, Site, Tracer
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

_MOST_CACHED = 1024


class Script(NamedTuple):
    """A parsed config.

    Attributes:
        code: The code to execute, which creates dicts by calling the function named `tracer.MAKE_DICT`.
        sites: The lines of each dict's keys, indexed by the number that `MAKE_DICT` receives.
        bases: The files in `_base_`, with their lines.
        pure: Whether the config is a pure-Python config with lazy imports.
        references: The numbers of the referenced base paths, with their lines.
        reads: The variables of the config and its base that the code reads.
    """

    code: CodeType
    sites: list[Site]
    bases: list[tuple[str, Origin]]
    pure: bool
    references: dict[int, int]
    reads: frozenset[str]


_parsed: "OrderedDict[tuple[str, str, bool | None], Script]" = OrderedDict()


def parse(path: str, text: str, *, pure: bool | None = None) -> Script:
    """Parses a config, or returns the cached result for the same text.

    Args:
        path: The path, for errors and origins.
        text: The text, with placeholders replaced.
        pure: Whether the config is a pure-Python config; None detects it.

    Raises:
        ConfigSyntaxError: If the text is not valid Python.
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
            # Published configs contain invalid escapes such as "\d", which newer Python versions warn about.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, path)
            has_base = any(_base_value(statement) is not None for statement in tree.body)
            bases = _take_bases(tree, path)
            references = resolve_references(tree) if "__footplate_base_" in text else {}
            pure = is_pure(tree, has_base=has_base) if pure is None else pure
            if pure:
                tree = rewrite_imports(tree, path)
            tracer = Tracer(path)
            tracer.mark(tree)
            code = compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        if "\0" in text and (error.lineno or 0) < 1:
            raise ConfigSyntaxError("a config holds no null bytes", origin=Place(path, _line_of_null(text))) from error
        raise syntax_error(error, path) from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        place = _line_of_null(text) if "\0" in text else 1
        raise ConfigSyntaxError(f"cannot be parsed: {error}", origin=Place(path, place)) from error
    except (RecursionError, MemoryError) as error:
        raise ConfigSyntaxError("the config is nested too deeply", origin=Place(path, 1)) from error
    return Script(code, tracer.sites, bases, pure, references, frozenset(tracer.reads))


def _line_of_null(text: str) -> int:
    return text.count("\n", 0, text.index("\0")) + 1


def syntax_error(error: SyntaxError, path: str) -> ConfigSyntaxError:
    """Converts a SyntaxError of Python to a ConfigSyntaxError that quotes the line."""
    line = (error.text or "").strip()
    notes = [f"in: {line[:100]}"] if line else []
    return ConfigSyntaxError(f"not valid Python: {error.msg}", origin=Place(path, error.lineno or 1), notes=notes)


def _take_bases(tree: ast.Module, path: str) -> list[tuple[str, Origin]]:
    """Removes the statements that set `_base_`; returns the files in the first of them."""
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
