"""Extracts argument limits from the checks in constructors, so that schema and engine enforce the same limits."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ALWAYS = ast.Constant(value=True)
_BOUNDS = {"least": "minimum", "most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def argument_limits(entry: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Returns the limits of the arguments of a class or function, as JSON schema keywords.

    A limit is a call to `check_count`, `check_fraction`, `check_number` or `check_choice` with the argument and its
    name. Calls that depend on other arguments are ignored.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in reversed(getattr(entry, "__mro__", (entry,))):
        for name in ("__init__", "__post_init__"):
            function = vars(each).get(name) if inspect.isclass(each) else each
            if inspect.isfunction(function) and function.__module__.startswith("footplate."):
                found |= _limits_in(function)
    return found


def _limits_in(function: Any) -> dict[str, dict[str, Any]]:
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    found: dict[str, dict[str, Any]] = {}
    for call, condition in _calls(body, _ALWAYS):
        if len(call.args) < 2 or not isinstance(call.func, ast.Name) or not isinstance(call.args[0], ast.Constant):
            continue
        name = str(call.args[0].value)
        limits = _limits_of(call, function.__globals__)
        exception = _exception(condition, name)
        if limits and ast.unparse(call.args[1]) in (name, f"self.{name}") and exception is not None:
            found[name] = {"anyOf": [*exception, limits]} if exception else limits
    return found


def _calls(node: ast.AST, condition: ast.expr) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Yields each call in a function with the comparison that decides whether it runs, or with `_ALWAYS`.

    Skips calls in loops and under other conditions.
    """
    if isinstance(node, ast.Call):
        yield node, condition
    if isinstance(node, (ast.If, ast.IfExp)):
        is_negated = isinstance(node.test, ast.Compare) and isinstance(node.test.ops[0], (ast.NotEq, ast.IsNot))
        is_equal = isinstance(node.test, ast.Compare) and isinstance(node.test.ops[0], (ast.Eq, ast.Is))
        branch = node.body if is_negated else node.orelse if is_equal else []
        for each in (branch if isinstance(branch, list) else [branch]) if condition is _ALWAYS else ():
            yield from _calls(each, node.test)
    elif not isinstance(node, (ast.For, ast.While, ast.Try, ast.Lambda, ast.comprehension)):
        for child in ast.iter_child_nodes(node):
            yield from _calls(child, condition)


def _exception(condition: ast.expr, name: str) -> list[dict[str, Any]] | None:
    """Returns schemas for argument values that skip the check, or None if the condition depends on anything else."""
    if condition is _ALWAYS:
        return []
    if not isinstance(condition, ast.Compare) or ast.unparse(condition.left) not in (name, f"self.{name}"):
        return None
    try:
        return [{"const": ast.literal_eval(condition.comparators[0])}]
    except ValueError:
        return None


def _limits_of(call: ast.Call, names: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the limits that a call checks, or an empty dict if it is not a check or a bound is computed."""

    def value(node: ast.expr) -> Any:
        return names.get(node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)

    kind = call.func.id if isinstance(call.func, ast.Name) else ""
    try:
        options = {each.arg: value(each.value) for each in call.keywords if each.arg in _BOUNDS}
        if kind == "check_number":
            return {_BOUNDS[str(key)]: bound for key, bound in options.items()}
        if kind == "check_count":
            bounds = {"minimum": options.get("least", 1), "maximum": options.get("most")}
            return {key: bound for key, bound in bounds.items() if bound is not None}
        if kind == "check_fraction":
            return {"minimum": 0, "maximum": 1}
        if kind == "check_choice":
            return {"anyOf": [{"enum": [*value(call.args[2])]}, {"not": {"type": "string"}}]}
    except (ValueError, TypeError):
        return {}
    return {}
