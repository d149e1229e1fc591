"""The search space of a sweep: parses parameters such as `optim_wrapper.optimizer.lr=log:1e-4..1e-2`."""

import copy
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from footplate.config import Config, find_unused_changes
from footplate.config.overrides import format_value, parse_value
from footplate.errors import ArgumentError
from footplate.tools.key_equivalents import apply_known

_RANGE = ".."
_MAX = sys.float_info.max


class Parameter(NamedTuple):
    """A config key that a sweep varies."""

    key: str  # the path of the key
    low: float = 0  # the minimum of a range
    high: float = 0  # the maximum of a range; if both are integers, so are the values
    log: bool = False  # whether to search the range on a logarithmic scale
    choices: tuple[Any, ...] = ()  # the values to try, in place of a range

    def suggest(self, trial: Any) -> Any:
        """Returns the value that an optuna trial suggests."""
        if self.choices:
            # optuna can store only simple choices, so it gets their indices.
            return self.choices[trial.suggest_categorical(self.key, list(range(len(self.choices))))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def value_of(self, stored: Any) -> Any:
        """Converts a value that optuna stored to a value of the key."""
        return self.choices[stored] if self.choices else stored


def parse_parameter(text: str) -> Parameter:
    """Parses `key=low..high`, `key=log:low..high` or `key=first,second,...`.

    A range between two integers has integer values. Values use the same notation as `--set`.

    Raises:
        ArgumentError: The text is invalid.
        OverrideError: A bracket or a quote in a value is not closed.

    Example:
        >>> parse_parameter("optim_wrapper.optimizer.lr=log:1e-4..1e-2")
        Parameter(key='optim_wrapper.optimizer.lr', low=0.0001, high=0.01, log=True, choices=())
        >>> parse_parameter("train_dataloader.batch_size=8,16,32").choices
        (8, 16, 32)
    """
    key, _, values = (part.strip() for part in text.partition("="))
    log = values.startswith("log:")
    values = values.removeprefix("log:")
    if key and _RANGE in values:
        low, high = map(parse_value, values.split(_RANGE, 1))
        numbers = [isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high)]
        # The bounds exclude infinities, NaN and integers that no float can hold; optuna cannot search those.
        if not all(numbers) or not -_MAX <= low < high <= _MAX:
            raise ArgumentError("a range needs two numbers, the lower one first", key="--param", found=text)
        if log and low <= 0:
            raise ArgumentError("a logarithmic range must start above 0", key="--param", found=text)
        return Parameter(key, low, high, log)
    choices = parse_value(values)
    if not key or log or not isinstance(choices, list) or len(choices) < 2:
        raise ArgumentError(
            "a parameter must have the form KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A,B,C", key="--param", found=text
        )
    return Parameter(key, choices=tuple(choices))


def check_parameters(cfg: Config, parameters: Sequence[Parameter]) -> None:
    """Raises an error for keys that a sweep cannot vary, and for choices that a key cannot have.

    Raises:
        ArgumentError: A key is varied twice or has no effect.
        OverrideError: A key is not in the config, or a choice has the wrong type.
    """
    keys = [parameter.key for parameter in parameters]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ArgumentError("a key is varied twice", key="--param", found=twice)
    from footplate.engine.run_config import keys_read  # imports torch

    read = keys_read(cfg)
    for key, low, high, _, choices in parameters:
        for value in choices or (low, high):
            for change in find_unused_changes(with_values(cfg, {key: value}), read):
                if change.was_read and change.key == key and change.origin.is_override:  # caused by the sweep
                    raise ArgumentError(change.problem, key="--param")


def first_values(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Returns the first choice or the minimum of each parameter, by key."""
    return {parameter.key: parameter.choices[0] if parameter.choices else parameter.low for parameter in parameters}


def with_values(cfg: Config, values: Mapping[str, Any]) -> Config:
    """Returns a copy of a config with the values of a trial."""
    changed = copy.deepcopy(cfg)
    apply_known(changed, overrides_of(values))
    return changed


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Formats the values of a trial as arguments for `--set`.

    >>> overrides_of({"model.depth": 18, "model.type": "ResNet"})
    ['model.depth=18', 'model.type=ResNet']
    """
    return [f"{key}={format_value(value)}" for key, value in values.items()]
