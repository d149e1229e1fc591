"""Renames losses and metrics whose names are reserved for scalars of the engine."""

import logging
from collections.abc import Collection

_logger = logging.getLogger("footplate.records")
SUFFIX = "_of_model"
RESERVED_NAMES = frozenset(
    {"lr", "base_lr", "time", "data_time", "grad_norm", "memory", "eta", "iter", "epoch", "step", "mode", "at"}
)


class ScalarNames:
    """Maps reserved names of losses and metrics to other names, and warns once for each."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def name_of(self, mode: str, name: str, further: Collection[str] = ()) -> str:
        """Returns the name under which a value is recorded: `<name>_of_model` if the name is reserved.

        Args:
            mode: "train", "val" or "test".
            name: The name of the loss or metric.
            further: Additional names that are reserved in this run.
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
