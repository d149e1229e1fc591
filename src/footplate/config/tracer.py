"""Rewrites the dicts of a .py config, so that each one records the lines of its keys."""

import ast
from collections.abc import Callable
from typing import Any

from footplate.config.origins import Place
from footplate.errors import Origin

BASE = "_base_"
MAKE_DICT = "__footplate_dict__"

Site = dict[object, Origin]


class Tracer:
    """Rewrites `dict(...)`, `{...}` and dict comprehensions as calls of `MAKE_DICT`, and records their lines.

    Each call receives the number of its lines, and the dicts that `**` unpacks into it.

    Attributes:
        sites: The lines of each dict's keys, indexed by the number that `MAKE_DICT` receives.
        reads: The variables of the config and its base that the code reads.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.sites: list[Site] = []
        self.reads: set[str] = set()

    def mark(self, tree: ast.Module) -> None:
        """Rewrites a parsed config in place."""
        self._rewrite_children(tree)

    def _rewrite_children(self, node: ast.AST) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            if type(value) is list:
                for index, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        value[index] = self._rewrite(item)
            elif isinstance(value, ast.AST):
                setattr(node, name, self._rewrite(value))

    def _rewrite(self, node: ast.AST) -> Any:
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            return handler(self, node)
        self._rewrite_children(node)
        return node

    def _leaf(self, node: Any) -> Any:
        return node

    def _name(self, node: Any) -> Any:
        if type(node.ctx) is ast.Load:
            self.reads.add(node.id)
        return node

    def _attribute(self, node: Any) -> Any:
        if type(node.value) is ast.Name and node.value.id == BASE:
            self.reads.add(node.attr)
        node.value = self._rewrite(node.value)
        return node

    def _subscript(self, node: Any) -> Any:
        key = node.slice
        if type(node.value) is ast.Name and node.value.id == BASE and type(key) is ast.Constant:
            self.reads.add(str(key.value))
        self._rewrite_children(node)
        return node

    def _call(self, node: Any) -> Any:
        for keyword in node.keywords:
            if type(keyword.value) is not ast.Constant:
                keyword.value = self._rewrite(keyword.value)
        for index, argument in enumerate(node.args):
            node.args[index] = self._rewrite(argument)
        if type(node.func) is ast.Name:
            if node.func.id == "dict":
                lines = {keyword.arg: keyword.lineno for keyword in node.keywords if keyword.arg}
                spread = [keyword.value for keyword in node.keywords if keyword.arg is None]
                node.func.id = MAKE_DICT
                node.args[:0] = [self._site(node, lines), _sources(spread, node)]
            return node
        node.func = self._rewrite(node.func)
        return node

    def _display(self, node: Any) -> Any:
        self._rewrite_children(node)
        lines = {key.value: key.lineno for key in node.keys if type(key) is ast.Constant}
        spread = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
        return self._wrapped(node, lines, spread)

    def _comprehension(self, node: Any) -> Any:
        self._rewrite_children(node)
        return self._wrapped(node, {}, [])

    def _wrapped(self, node: ast.expr, lines: dict[Any, int], spread: list[ast.expr]) -> ast.expr:
        name = ast.copy_location(ast.Name(MAKE_DICT, ast.Load()), node)
        return ast.copy_location(ast.Call(name, [self._site(node, lines), _sources(spread, node), node], []), node)

    def _site(self, node: ast.expr, lines: dict[Any, int]) -> ast.expr:
        path = self.path
        site: Site = {None: Place(path, node.lineno)}
        for key, line in lines.items():
            if key is not None:
                site[key] = Place(path, line)
        self.sites.append(site)
        return ast.copy_location(ast.Constant(len(self.sites) - 1), node)


def _sources(spread: list[ast.expr], node: ast.expr) -> ast.expr:
    """Returns the dicts that `**` unpacks, for their lines; only names and lookups, which can be evaluated twice."""
    return ast.copy_location(ast.Tuple([each for each in spread if _is_name(each)], ast.Load()), node)


def _is_name(node: ast.expr) -> bool:
    while type(node) is ast.Attribute or (type(node) is ast.Subscript and type(node.slice) is ast.Constant):
        node = node.value
    return type(node) is ast.Name


_HANDLERS: dict[type, Callable[[Tracer, Any], Any]] = {
    ast.Constant: Tracer._leaf,
    ast.Name: Tracer._name,
    ast.Attribute: Tracer._attribute,
    ast.Subscript: Tracer._subscript,
    ast.Call: Tracer._call,
    ast.Dict: Tracer._display,
    ast.DictComp: Tracer._comprehension,
}
