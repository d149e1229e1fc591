"""Extracts argument limits from the checks in constructors, so that schema and engine enforce the same limits."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_BOUNDS = {"least": "minimum", "most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def argument_limits(entry: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Returns the limits on the arguments of a class or function as JSON schema keywords.

    The limits are read from calls to `check_count`, `check_fraction`, `check_number` and `check_choice` that pass the
    name of an argument and the argument itself. Calls that depend on other arguments are ignored.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in reversed(getattr(entry, "__mro__", (entry,))):
        for name in ("__init__", "__post_init__"):
            function = vars(each).get(name) if inspect.isclass(each) else each
            if inspect.isfunction(function) and function.__module__.startswith("footplate."):
                body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
                for call, condition in _calls(body, None):
                    found |= _checked_limits(call, condition, function.__globals__)
    return found


def _calls(node: ast.AST, condition: ast.Compare | None) -> Iterator[tuple[ast.Call, ast.Compare | None]]:
    """Yields each call in a function, with the comparison on which it depends, or None if it is unconditional.

    Skips calls in loops and under other conditions.
    """
    if isinstance(node, ast.Call):
        yield node, condition
    if isinstance(node, (ast.If, ast.IfExp)):
        if condition is None and isinstance(node.test, ast.Compare):
            is_negated = isinstance(node.test.ops[0], (ast.NotEq, ast.IsNot))
            is_equal = isinstance(node.test.ops[0], (ast.Eq, ast.Is))
            branch = node.body if is_negated else node.orelse if is_equal else []
            for each in branch if isinstance(branch, list) else [branch]:
                yield from _calls(each, node.test)
    elif not isinstance(node, (ast.For, ast.While, ast.Try, ast.Lambda, ast.comprehension)):
        for child in ast.iter_child_nodes(node):
            yield from _calls(child, condition)


def _checked_limits(
    call: ast.Call, condition: ast.Compare | None, names: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Maps the argument that a call checks to its limits. Also allows the values for which the call is skipped.

    The result is empty if the call is not a check, a bound is computed, or the condition does not concern the argument.
    """

    def value(node: ast.expr) -> Any:
        return names.get(node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)

    kind = call.func.id if isinstance(call.func, ast.Name) else ""
    if kind not in ("check_number", "check_count", "check_fraction", "check_choice") or len(call.args) < 2:
        return {}
    try:
        name = str(ast.literal_eval(call.args[0]))
        options = {str(each.arg): value(each.value) for each in call.keywords if each.arg in _BOUNDS}
        if kind == "check_count":
            options = {"least": 1, **options}
        limits: dict[str, Any] = {_BOUNDS[key]: bound for key, bound in options.items() if bound is not None}
        if kind == "check_fraction":
            limits = {"minimum": 0, "maximum": 1}
        elif kind == "check_choice":
            limits = {"anyOf": [{"enum": [*value(call.args[2])]}, {"not": {"type": "string"}}]}
        if condition is not None:
            limits = {"anyOf": [{"const": ast.literal_eval(condition.comparators[0])}, limits]} if limits else {}
    except (ValueError, TypeError):
        return {}
    checked = {ast.unparse(call.args[1]), *([ast.unparse(condition.left)] if condition is not None else [])}
    return {name: limits} if limits and checked <= {name, f"self.{name}"} else {}
