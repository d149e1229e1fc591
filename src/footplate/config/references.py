"""Resolves references to values of the base, `{{ _base_.a.b }}`, in a parsed .py config."""

import ast

from footplate.config import templates

FILL_STRING = "__footplate_fill__"


def resolve_references(tree: ast.Module) -> dict[int, int]:
    """Returns the numbers of the referenced base paths with their lines; makes strings fill in references when run."""
    filler = _Filler()
    filler.visit(tree)
    return filler.lines


class _Filler(ast.NodeTransformer):
    def __init__(self) -> None:
        self.lines: dict[int, int] = {}

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        self._note(node.id, node.lineno)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:  # noqa: N802
        if not isinstance(node.value, str) or not self._note(node.value, node.lineno):
            return node
        call = ast.Call(ast.Name(FILL_STRING, ast.Load()), [ast.Constant(node.value)], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:  # noqa: N802
        node.values = [self._part(part) for part in node.values]
        return node

    def _part(self, part: ast.expr) -> ast.expr:
        filled: ast.expr = self.visit(part)
        if filled is part:
            return part
        return ast.fix_missing_locations(ast.copy_location(ast.FormattedValue(filled, -1, None), part))

    def _note(self, text: str, line: int) -> bool:
        numbers = templates.base_references(text)
        for number in numbers:
            self.lines.setdefault(number, line)
        return bool(numbers)
