"""Parses the search space of a sweep, such as `optim_wrapper.optimizer.lr=log:1e-4..1e-2`."""

import ast
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from footplate.errors import ArgumentError

_RANGE = ".."
_MOST = sys.float_info.max


class Parameter(NamedTuple):
    """A config key that a sweep varies.

    Attributes:
        key: The path of the key.
        low: The minimum of a range.
        high: The maximum of a range; if both are integers, so are the values.
        log: Whether to search the range on a logarithmic scale.
        choices: The values to try, in place of a range.
    """

    key: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any) -> Any:
        """Returns the value that an optuna trial suggests."""
        if self.choices:
            # optuna can store only simple choices, so it gets their indices.
            return self.choices[trial.suggest_categorical(self.key, list(range(len(self.choices))))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def value_of(self, stored: Any) -> Any:
        """Returns the value for what optuna stored."""
        return self.choices[stored] if self.choices else stored


def parse_parameter(text: str) -> Parameter:
    """Parses `key=low..high`, `key=log:low..high` or `key=first,second,...`.

    A range between two integers has integer values.

    Raises:
        ArgumentError: The text is invalid.

    Example:
        >>> parse_parameter("optim_wrapper.optimizer.lr=log:1e-4..1e-2")
        Parameter(key='optim_wrapper.optimizer.lr', low=0.0001, high=0.01, log=True, choices=())
        >>> parse_parameter("train_dataloader.batch_size=8,16,32").choices
        (8, 16, 32)
    """
    key, mark, wanted = text.partition("=")
    if not mark or not key.strip() or not wanted.strip():
        raise _unreadable(text)
    log = wanted.startswith("log:")
    wanted = wanted.removeprefix("log:")
    if _RANGE in wanted:
        low, high = (_literal(part) for part in wanted.split(_RANGE, 1))
        return _checked(Parameter(key.strip(), low, high, log), text)
    choices = tuple(_literal(part) for part in _split(wanted))
    if log or len(choices) < 2:
        raise _unreadable(text)
    return Parameter(key.strip(), choices=choices)


def _checked(parameter: Parameter, text: str) -> Parameter:
    numbers = [isinstance(end, (int, float)) and not isinstance(end, bool) for end in (parameter.low, parameter.high)]
    # The bounds exclude infinities, NaN and integers that no float can hold; optuna cannot search those.
    if not all(numbers) or not -_MOST <= parameter.low < parameter.high <= _MOST:
        raise ArgumentError("a range goes from a number to a greater one", key="--param", found=text)
    if parameter.log and parameter.low <= 0:
        raise ArgumentError("a range that is searched by magnitude begins above 0", key="--param", found=text)
    return parameter


def _split(text: str) -> Sequence[str]:
    """Splits at commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def _unreadable(text: str) -> ArgumentError:
    return ArgumentError(
        "a parameter is written KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A,B,C", key="--param", found=text
    )
