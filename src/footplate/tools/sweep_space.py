"""Defines the search space of a sweep, with parameters such as `optim_wrapper.optimizer.lr=log:1e-4..1e-2`."""

import copy
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from footplate.checks import is_number
from footplate.config import Config, find_unused_changes
from footplate.config.literals import parse_value
from footplate.errors import ArgumentError
from footplate.tools.key_equivalents import accepted_in_either_generation
from footplate.tools.overrides import apply_overrides, format_value


class Parameter(NamedTuple):
    """A config key that a sweep varies."""

    key: str  # the path of the key
    values: tuple[Any, ...]  # the choices, or the minimum and the maximum of a range
    is_range: bool = False  # values are integers if both ends of the range are integers
    log: bool = False  # whether to search the range on a logarithmic scale

    def suggest(self, trial: Any) -> Any:
        """Returns the value that an optuna trial suggests for the key."""
        if not self.is_range:  # optuna can store only simple choices, so it gets their indices
            return self.values[trial.suggest_categorical(self.key, list(range(len(self.values))))]
        is_integer = all(isinstance(end, int) for end in self.values)
        return (trial.suggest_int if is_integer else trial.suggest_float)(self.key, *self.values, log=self.log)

    def value_of(self, stored: Any) -> Any:
        """Converts a value stored by optuna (the index of a choice, or a number) to a config value."""
        return stored if self.is_range else self.values[stored]


def parse_parameter(text: str) -> Parameter:
    """Parses `key=low..high`, `key=log:low..high` or `key=first,second,...`. Values are written as for `--set`.

    Raises:
        ArgumentError: The text is invalid.
        OverrideError: A bracket or a quote in a value is not closed.

    Example:
        >>> parse_parameter("optim_wrapper.optimizer.lr=log:1e-4..1e-2")
        Parameter(key='optim_wrapper.optimizer.lr', values=(0.0001, 0.01), is_range=True, log=True)
        >>> parse_parameter("train_dataloader.batch_size=8,16,32").values
        (8, 16, 32)
    """
    key, _, values = (part.strip() for part in text.partition("="))
    log = values.startswith("log:")
    values = values.removeprefix("log:")
    if key and ".." in values and "," not in values:  # choices may be paths such as ../a.pth
        low, high = map(parse_value, values.split("..", 1))
        # The bounds exclude infinities, NaN and integers that no float can hold; optuna cannot search those.
        least, most = sys.float_info.min if log else -sys.float_info.max, sys.float_info.max
        if is_number(low) and is_number(high) and least <= low < high <= most:
            return Parameter(key, (low, high), is_range=True, log=log)
        message = "a range needs two finite numbers, the lower one first; a logarithmic range must start above 0"
    else:
        choices = parse_value(values)
        if key and not log and isinstance(choices, list) and len(choices) > 1:
            return Parameter(key, tuple(choices))
        message = "a parameter must have the form KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A,B,C"
    raise ArgumentError(message, key="--param", found=text)


def check_parameters(cfg: Config, parameters: Sequence[Parameter]) -> None:
    """Checks that a sweep can vary the keys, and that the keys accept the choices.

    Raises:
        ArgumentError: A key is varied twice or has no effect.
        OverrideError: A key is not in the config, or a choice has the wrong type.
    """
    from footplate.engine.run_config import keys_with_effect  # imports torch

    keys, read = set[str](), keys_with_effect(cfg)
    for parameter in parameters:
        if parameter.key in keys:
            raise ArgumentError("a key is listed more than once", key="--param", found=parameter.key)
        keys.add(parameter.key)
        for value in parameter.values:
            for change in find_unused_changes(with_values(cfg, {parameter.key: value}), read):
                if change.was_read and change.key == parameter.key and change.origin.is_override:
                    raise ArgumentError(change.problem, key="--param")


def with_values(cfg: Config, values: Mapping[str, Any]) -> Config:
    """Returns a copy of a config with the values of a trial. `values` maps key paths to values."""
    changed = copy.deepcopy(cfg)
    apply_overrides(changed, overrides_of(values), accepted=accepted_in_either_generation)
    return changed


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Formats the values of a trial as arguments for `--set`."""
    return [f"{key}={format_value(value)}" for key, value in values.items()]
