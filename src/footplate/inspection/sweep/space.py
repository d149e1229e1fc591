"""What a sweep varies: `optim_wrapper.optimizer.lr=log:1e-4..1e-2`."""

import ast
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from footplate.errors import ArgumentError

_RANGE = ".."
_MOST = sys.float_info.max


class Parameter(NamedTuple):
    """One key that is varied.

    Attributes:
        key: Its path in the config.
        low: The least value of a range.
        high: The greatest value of a range; both are whole numbers where the key takes such.
        log: Whether the range is searched by magnitude.
        choices: The values that are tried, in place of a range.
    """

    key: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any) -> Any:
        """Returns the value that an optuna trial takes."""
        if self.choices:
            # optuna stores choices as text: places stand for those that it could not store.
            return self.choices[trial.suggest_categorical(self.key, list(range(len(self.choices))))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def value_of(self, stored: Any) -> Any:
        """Returns the value that stands behind what optuna stored."""
        return self.choices[stored] if self.choices else stored


def parse_parameter(text: str) -> Parameter:
    """Reads `key=low..high`, `key=log:low..high` or `key=first,second,...`.

    Whole numbers on both ends of a range give whole numbers.

    Raises:
        ArgumentError: It cannot be read.

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
    # More than a float holds compares, and optuna cannot search there; NaN compares with nothing.
    if not all(numbers) or not -_MOST <= parameter.low < parameter.high <= _MOST:
        raise ArgumentError("a range goes from a number to a greater one", key="--param", found=text)
    if parameter.log and parameter.low <= 0:
        raise ArgumentError("a range that is searched by magnitude begins above 0", key="--param", found=text)
    return parameter


def _split(text: str) -> Sequence[str]:
    """Splits at commas outside of brackets."""
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
