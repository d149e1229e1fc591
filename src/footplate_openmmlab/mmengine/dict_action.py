"""`mmengine.DictAction`, the argparse action for `key=value` arguments."""

import argparse
from collections.abc import Sequence
from typing import Any

from footplate.config.literals import parse_value
from footplate.errors import OverrideError


class DictAction(argparse.Action):
    """Collects `key=value` arguments into a dict for `Config.merge_from_dict`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> action = parser.add_argument("--cfg-options", nargs="+", action=DictAction)
        >>> parser.parse_args(["--cfg-options", "optimizer.lr=0.1", "scale=1333,800"]).cfg_options
        {'optimizer.lr': 0.1, 'scale': [1333, 800]}
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Merges the pairs into the dict collected from earlier uses of the flag.

        Raises:
            argparse.ArgumentError: A value does not have the form `key=value` or cannot be parsed.
        """
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in [values] if isinstance(values, str) else values or []:
            key, mark, value = str(pair).partition("=")
            if not mark or not key:
                raise argparse.ArgumentError(self, f"expected key=value, got '{pair}'")
            try:
                options[key] = parse_value(value.strip())
            except OverrideError as error:
                raise argparse.ArgumentError(self, error.message) from error
        setattr(namespace, self.dest, options)
