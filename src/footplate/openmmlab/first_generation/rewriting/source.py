"""Reads a first-generation config file: statements, expressions, comments."""

import ast
import functools
import io
import itertools
import tokenize
from pathlib import Path
from typing import NamedTuple

from footplate.errors import ConfigSyntaxError, Origin

KeyPath = tuple[str, ...]

# The maximum number of variables that are followed, so that circular assignments end.
_MAX_HOPS = 8


class Comment(NamedTuple):
    """A comment.

    Attributes:
        line: The line number, from 1.
        text: The text, including the `#`.
        own_line: Whether the line contains nothing else.
    """

    line: int
    text: str
    own_line: bool


class Statement(NamedTuple):
    """A top-level statement of a file.

    Attributes:
        name: The variable that the statement assigns, changes (`data["train"] = ...`) or calls, or None.
        first: The first line, from 1.
        last: The last line.
        value: The assigned expression, or None.
        reads: The variables that the statement reads.
        target: The assigned key path, such as `("data", "train")` for `data["train"] = ...`, or empty.
    """

    name: str | None
    first: int
    last: int
    value: ast.expr | None
    reads: frozenset[str]
    target: KeyPath

    @property
    def assigns(self) -> bool:
        """Whether the statement is a plain assignment to the variable."""
        return len(self.target) == 1


class SourceFile:
    """The source of a .py config.

    Args:
        path: The path of a file with valid Python code.

    Raises:
        ConfigSyntaxError: Two statements are on one line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8-sig")
        self.lines = self.text.split("\n")
        self._tree = ast.parse(self.text)
        self.statements = [_statement(node) for node in self._tree.body]
        for before, after in itertools.pairwise(self.statements):
            if before.last == after.first:
                message = "cannot migrate two statements on one line; write them on separate lines"
                raise ConfigSyntaxError(message, origin=Origin(str(path), after.first))
        self._comments = comments_of(self.text)

    @functools.cached_property
    def bases(self) -> list[str]:
        """The names in `_base_`."""
        statement = self.assigned("_base_")
        nodes = [] if statement is None or statement.value is None else list(ast.walk(statement.value))
        return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]

    def assigned(self, name: str) -> Statement | None:
        """Returns the last statement that assigns a variable, or None."""
        return next((each for each in reversed(self.statements) if each.name == name and each.assigns), None)

    def expression(self, path: KeyPath, hops: int = _MAX_HOPS) -> ast.expr | None:
        """Returns the expression that the file assigns to a key path, or None.

        Args:
            path: The key path.
            hops: The maximum number of variables to follow.
        """
        for statement in reversed(self.statements):
            if statement.target and path[: len(statement.target)] == statement.target:
                node = statement.value
                for part in path[len(statement.target) :]:
                    node = dict(_entries(self.resolved(node, hops))).get(part)
                return node
        return None

    def resolved(self, node: ast.expr | None, hops: int = _MAX_HOPS) -> ast.expr | None:
        """Returns the expression assigned to a variable or an item of one. Others are returned unchanged."""
        path = _key_path(node)
        return node if not path else self.expression(path, hops - 1) if hops > 0 else None

    def keys(self, node: ast.expr | None) -> frozenset[str] | None:
        """Returns the keys of a dict or a call to dict(), or None for others or if a mapping is unpacked."""
        keys = {key for key, _ in _entries(node)}
        return frozenset(map(str, keys)) if _is_dict(node) and None not in keys else None

    def is_list(self, node: ast.expr) -> bool | None:
        """Checks whether an expression is a list or a tuple. Returns None if this cannot be determined."""
        value = self.resolved(node)
        if isinstance(value, (ast.List, ast.Tuple)):
            return True
        return False if self.keys(value) is not None else None

    def code(self, node: ast.expr) -> str:
        """Returns the source text of an expression. Lines after the first are indented relative to its first line."""
        code = ast.get_source_segment(self.text, node) or ""
        line = self.lines[node.lineno - 1]
        return code.replace("\n" + line[: len(line) - len(line.lstrip())], "\n")

    def comments_on_lines(self, first: int, last: int) -> list[Comment]:
        """Returns the comments on the lines from `first` to `last`, inclusive."""
        return [comment for comment in self._comments if first <= comment.line <= last]

    @functools.cached_property
    def comments_by_entry(self) -> dict[ast.expr, list[Comment]]:
        """Maps the values of the entries of dicts, calls and lists to their comments.

        These are the comments on the lines above the entry and at the end of its last line.
        """
        comments: dict[ast.expr, list[Comment]] = {}
        for container in ast.walk(self._tree):
            entries = _entries(container)
            ends = [getattr(container, "lineno", 0), *(_last_line(value) for _, value in entries)]
            starts = [*(value.lineno for _, value in entries), getattr(container, "end_lineno", 0)]
            for index, (_, value) in enumerate(entries):
                last = ends[index + 1]
                above = [each for each in self.comments_on_lines(ends[index] + 1, value.lineno - 1) if each.own_line]
                trailing = self.comments_on_lines(last, last) if starts[index + 1] > last else []
                comments[value] = above + trailing
        return comments


def comments_of(code: str) -> list[Comment]:
    """Returns the comments in Python code."""
    return [
        Comment(token.start[0], token.string, own_line=not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT
    ]


def names_read(node: ast.AST) -> frozenset[str]:
    """Returns the variables that a node reads. A variable of a base is returned as `_base_.name`."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            names.add(part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "_base_":
            names.add(f"_base_.{part.attr}")
    return frozenset(names - {"_base_"})


def _statement(node: ast.stmt) -> Statement:
    root: ast.expr | None = None
    path: KeyPath = ()
    match node:
        case ast.Assign(targets=[root]):
            path = _key_path(root)
        case ast.AugAssign(target=root) | ast.Delete(targets=[root]) | ast.Expr(value=ast.Call(func=root)):
            pass  # such as data.update(...)
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    return Statement(
        name=root.id if isinstance(root, ast.Name) else None,
        first=node.lineno,
        last=_last_line(node),
        value=node.value if isinstance(node, ast.Assign) and path else None,
        reads=names_read(node),
        target=path,
    )


def _last_line(node: ast.stmt | ast.expr) -> int:
    return node.end_lineno or node.lineno


def _key_path(node: ast.AST | None) -> KeyPath:
    """Returns the key path of a variable or an item, such as ("data", "val") for `data["val"]`.

    For any other node, returns ().
    """
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if parents := _key_path(value):
            return (*parents, key)
    return ()


def _is_dict(node: ast.expr | None) -> bool:
    """Checks whether an expression is a dict or a call to dict()."""
    return isinstance(node, ast.Dict) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "dict")


def _entries(node: ast.AST | None) -> list[tuple[str | None, ast.expr]]:
    """Returns the keys and values of a dict or call, or the indices and items of a list or tuple.

    The key is None for a positional argument, an unpacked mapping and a key that is not a string literal.
    """
    match node:
        case ast.Call(args=args, keywords=keywords):
            return [*((None, value) for value in args), *((each.arg, each.value) for each in keywords)]
        case ast.Dict(keys=keys, values=values):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            return [(name if isinstance(name, str) else None, value) for name, value in zip(names, values, strict=True)]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [(str(index), value) for index, value in enumerate(elements)]
    return []
