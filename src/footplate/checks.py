"""Checks the values of arguments, configs and checkpoints.

Functions that check arguments and configs raise ArgumentError. `name` is the value's name in the message. `key` is its
key in the section that contains it, and defaults to `name` unless noted otherwise.

A function that checks a whole section, such as `check_keys`, reports keys relative to the section. The caller adds the
section's own key with `at_key`; see `footplate.error_context`.

Functions that check the content of a checkpoint (`read_...`) raise KeyError if a key is missing, and ValueError if a
value is invalid.
"""

import inspect
import math
import numbers
import os
import re
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.messages import list_names, nearest

if TYPE_CHECKING:
    from torch import Tensor

MAX_RUN_LENGTH = 10**12  # iterations or epochs
_MAX_LISTED = 12


def check_count(name: str, value: Any, *, least: int = 1, most: int | None = None, key: str | None = None) -> int:
    """Checks that `value` is an integer from `least` to `most`, and returns it as an int. Rejects bools.

    If `most` is None, there is no upper bound.

    Raises:
        ArgumentError: `value` is not an integer or is out of bounds.

    >>> check_count("interval", 3)
    3
    """
    if not is_integer(value) or value < least:
        raise ArgumentError(f"{name} must be an integer >= {least}", key=key or name, found=value)
    if most is not None and value > most:
        raise ArgumentError(f"{name} must be at most {most:,}", key=key or name, found=value)
    return int(value)


def check_fraction(name: str, value: Any) -> float:
    """Checks that `value` is a number from 0 to 1, and returns it as a float.

    Raises:
        ArgumentError: `value` is not a number in this range.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} must be a number from 0 to 1", key=name, found=value)
    return float(value)


def is_number(value: object) -> TypeGuard[float]:
    """Checks whether `value` is a real number. NumPy scalars count as real numbers; bools do not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: object) -> TypeGuard[int]:
    """Checks whether `value` is an integer. NumPy integers count as integers; bools do not."""
    return is_number(value) and isinstance(value, numbers.Integral)


def check_number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    optional: bool = False,
) -> None:
    """Checks that `value` is a finite number within the given bounds.

    Args:
        name: The value's name in the message; also its key.
        value: The value to check.
        above: The value must be greater than this.
        least: The value must not be less than this.
        below: The value must be less than this.
        most: The value must not be greater than this.
        optional: Whether None is allowed.

    Raises:
        ArgumentError: `value` is not a finite number within the bounds.
    """
    if value is None and optional:
        return
    if is_number(value) and above < value < below and least <= value <= most:
        return
    limits = {">": above, ">=": least, "<": below, "<=": most}
    bounds = " and ".join(f"{sign} {limit:g}" for sign, limit in limits.items() if math.isfinite(limit))
    raise ArgumentError(f"'{name}' must be a finite number {bounds}".rstrip(), key=name, found=value)


def check_choice(name: str, value: object, choices: Collection[str], *, key: str | None = None) -> str:
    """Checks that `value` is one of `choices`, and returns it. Pass `key=""` if the caller adds the whole key.

    Raises:
        ArgumentError: `value` is not one of `choices`. The message suggests the most similar choice.
    """
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(
            f"{name} must be one of {', '.join(choices)}",
            key=name if key is None else key,
            found=value,
            suggestion=nearest(value, choices),
        )
    return value


def check_keys(
    name: str,
    section: Mapping[str, Any],
    known: Collection[str],
    *,
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Checks that a section contains only known keys.

    Args:
        name: The name of the section in the message.
        section: The section to check.
        known: The known keys.
        elsewhere: Maps each key that belongs elsewhere to the setting to use instead.

    Raises:
        ArgumentError: The section has an unknown key. The message suggests the most similar known key, or lists the
            known keys if none is similar.
    """
    for key, value in section.items():
        if key not in known:
            advice = (elsewhere or {}).get(key)
            near = None if advice else nearest(key, known)
            notes = [f"valid keys: {list_names(known, _MAX_LISTED)}"] if known and near is None else []
            raise ArgumentError(
                f"unknown key '{key}' in {name}",
                key=key,
                found=value,
                origin=origin_of(section, key),
                suggestion=near,
                notes=[f"Set {advice}."] if advice else notes,
            )


def check_flag(name: str, value: object, *, key: str | None = None) -> bool:
    """Checks that `value` is a bool, and returns it. Rejects other types, because a string such as "no" is truthy.

    Raises:
        ArgumentError: `value` is not a bool.
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False", key=key or name, found=value)
    return value


def check_score(name: str, value: object, *, key: str) -> float:
    """Converts the value of the metric `name` to a float. The value may be a number or a one-element array.

    Raises:
        ArgumentError: The value is a string or cannot be converted.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # other types raise TypeError
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"the value of the metric '{name}' is not a single number",
            key=key,
            found=value,
            notes=[
                "Check for a missing `return` or `.mean()`. For several values, such as one per class, return a dict."
            ],
        ) from error


def check_pattern(pattern: Any, *, key: str) -> re.Pattern[str]:
    """Compiles and returns a regular expression.

    Raises:
        ArgumentError: `pattern` is not a valid regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        message = f"{pattern!r} is not a valid regular expression: {error}"
        raise ArgumentError(message, key=key, found=pattern) from error


def check_names(key: str, value: Any) -> list[str]:
    """Converts a name, a list of names or None to a list of names.

    Raises:
        ArgumentError: The value is neither a string nor a list of strings.
    """
    if value is None:
        return []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"{key} must be a name or a list of names", key=key, found=value)
    return list(names)


def check_folder(key: str, value: Any) -> str | None:
    """Converts the path to a folder to a string. Returns None if `value` is None.

    Raises:
        ArgumentError: The value is not a path.
    """
    if value is None or isinstance(value, (str, os.PathLike)):
        return value and os.fspath(value)  # type: ignore[return-value]  # a str or None
    raise ArgumentError(f"{key} must be the path to a folder", key=key, found=value)


def read_count(state: Mapping[str, Any], key: str, *, least: int = 0, most: int = MAX_RUN_LENGTH) -> int:
    """Returns the integer stored in `state` under `key`."""
    value = state[key]
    if not is_integer(value) or not least <= value <= most:
        raise ValueError(f"'{key}' must be an integer from {least} to {most:,}, not {reprlib.repr(value)}")
    return int(value)


def read_flag(state: Mapping[str, Any], key: str) -> bool:
    """Returns the bool stored in `state` under `key`."""
    value = state[key]
    if not isinstance(value, bool):
        raise ValueError(f"'{key}' must be True or False, not {reprlib.repr(value)}")
    return value


def read_tensor(state: Mapping[str, Any], key: str, dim: int) -> "Tensor":
    """Returns the `dim`-dimensional floating-point tensor stored in `state` under `key`."""
    import torch  # imported here, so that commands without tensors start faster

    value = state[key]
    if not isinstance(value, torch.Tensor) or value.dim() != dim or not value.is_floating_point():
        raise ValueError(f"'{key}' must be a {dim}-dimensional floating-point tensor, not {reprlib.repr(value)}")
    return value


def check_accepts(
    owner: object,
    method: str,
    arguments: Sequence[str],
    *,
    keywords: Sequence[str] = (),
    expected: Sequence[str] | None = None,
) -> None:
    """Checks that an overridden method accepts the arguments that the engine passes.

    Args:
        owner: The object with the method.
        method: The name of the method.
        arguments: The names of the positional arguments.
        keywords: The names of the keyword arguments.
        expected: The argument names to show in the message; by default, `arguments` and `keywords`.

    Raises:
        ArgumentError: The method does not accept these arguments.
    """
    try:
        function = getattr(owner, method)
        inspect.signature(function).bind(*arguments, **dict.fromkeys(keywords))
    except TypeError as error:
        declared = expected or (*arguments, *keywords)
        by_name = ["Arguments after the first are passed by name."] if len(declared) > len(arguments) else []
        declared = ("self", *declared) if inspect.ismethod(function) else declared  # not for functions of `runner.on`
        raise ArgumentError(
            f"{type(owner).__name__}.{method} does not accept the arguments that the engine passes",
            notes=[f"expected: {method}({', '.join(declared)})", *by_name],
        ) from error


def check_takes(problem: str, function: Callable[..., Any], *arguments: str) -> None:
    """Checks that a function accepts the given positional arguments. Functions without a signature always pass.

    Args:
        problem: The start of the error message.
        function: The function to check.
        arguments: The names of the arguments, which are shown in the message.

    Raises:
        ArgumentError: The function accepts fewer arguments, or requires more.
    """
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:  # some C functions have no signature
        pass
    except TypeError as error:
        raise ArgumentError(f"{problem} ({', '.join(arguments)}): {error}") from error
