"""Names of scalars that the engine writes itself, and the names under which values of users are recorded instead."""

import logging
from collections.abc import Collection

_logger = logging.getLogger("footplate.records")
SUFFIX = "_of_model"
RESERVED_NAMES = frozenset(
    {"lr", "base_lr", "time", "data_time", "grad_norm", "memory", "eta", "iter", "epoch", "step", "mode", "at"}
)


class ScalarNames:
    """Gives a loss or metric that has a reserved name another one, and warns once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def name_of(self, mode: str, name: str, further: Collection[str] = ()) -> str:
        """Returns the name under which a value is recorded: its own, or `<name>_of_model` if that is reserved.

        Args:
            mode: "train", "val" or "test".
            name: The name of the loss or metric.
            further: More names that are reserved in this run.
        """
        if (mode, name) not in self._names:
            is_reserved = name in RESERVED_NAMES or name in further
            self._names[mode, name] = name + SUFFIX if is_reserved else name
            if is_reserved:
                _logger.warning(
                    "the %s '%s' has a name that the log uses itself: it is recorded as '%s'. Rename it.",
                    "loss" if mode == "train" else "metric",
                    name,
                    self._names[mode, name],
                )
        return self._names[mode, name]
