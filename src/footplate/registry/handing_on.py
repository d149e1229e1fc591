"""Which keyword arguments a class takes that hands its **kwargs on to its base."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any


def accepted(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Returns the names that may be given by keyword."""
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, each in parameters.items() if each.kind in by_keyword]


def keywords_of(entry: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> list[str] | None:
    """Returns the keyword arguments that `entry` takes, those of its bases included; None where any may be taken.

    Its bases count as far as each constructor does nothing with its **kwargs but call the next one with them: a
    class that looks into them may take what it likes.

    Args:
        entry: A class or function.
        parameters: Those of its signature.
    """
    if _rest_of(parameters) is None:
        return accepted(parameters)
    try:
        return _through_bases(entry) if hasattr(entry, "__mro__") else None
    except (TypeError, ValueError, OSError, SyntaxError):  # no signature, no source, or none that stands by itself
        return None


@lru_cache(maxsize=1024)
def _through_bases(kind: Callable[..., Any]) -> list[str] | None:
    names: list[str] = []
    for each in inspect.getmro(kind):  # type: ignore[arg-type]
        init = vars(each).get("__init__")
        if init is None:
            continue
        parameters = dict(list(inspect.signature(init).parameters.items())[1:])
        names += [name for name in accepted(parameters) if name not in names]
        rest = _rest_of(parameters)
        if rest is None:
            return names
        if not inspect.isfunction(init) or not _only_hands_on(init, rest):
            return None
    return None


def _rest_of(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """The name of what takes all other keywords, or None."""
    rest = [name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD]
    return rest[0] if rest else None


def _only_hands_on(init: Callable[..., Any], rest: str) -> bool:
    """Checks whether the one use of `rest` is in `super().__init__(..., **rest)`."""
    tree = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))))
    used = [each for each in tree if isinstance(each, ast.Name) and each.id == rest]
    given = [
        word.value
        for each in tree
        if isinstance(each, ast.Call) and ast.unparse(each.func).startswith("super(")
        for word in each.keywords
        if word.arg is None and ast.unparse(each.func).endswith(").__init__")
    ]
    return len(used) == 1 and used[0] in given
