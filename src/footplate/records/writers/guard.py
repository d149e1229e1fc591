"""Calls several writers, so that a failing writer stops neither the run nor the other writers."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.errors import FootplateError
from footplate.records.writers.base import BaseVisBackend

_logger = logging.getLogger("footplate.records")
_PATIENCE = 3


class GuardedWriters:
    """Forwards each call to all writers.

    If a writer fails, for example because its disk is full or its server is down, a warning is logged once. The writer
    is called again for the next data, and skipped after three failures in a row. A FootplateError, which reports a
    user error, is raised.

    Args:
        writers: The writers by name. Writers that are added to the mapping later are called, too.
    """

    def __init__(self, writers: Mapping[str, BaseVisBackend]) -> None:
        self._writers = writers
        self._missed: dict[str, int] = {}
        self._in_a_row: dict[str, int] = {}

    def tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Calls `method` of every writer."""
        for name, writer in self._writers.items():
            if self._in_a_row.get(name, 0) >= _PATIENCE and method != "close":
                self._missed[name] += 1
                continue
            try:
                getattr(writer, method)(*args, **kwargs)
                self._in_a_row[name] = 0
            except FootplateError:
                raise
            except Exception as error:  # no error of a library may stop the run
                self._note(name, method, error)

    def close(self) -> None:
        """Closes all writers and logs how many calls each of them missed."""
        self.tell("close")
        for name, missed in self._missed.items():
            _logger.info("the writer '%s' missed %d of the calls that it was told", name, missed)
        self._missed.clear()
        self._in_a_row.clear()

    def state_dict(self) -> dict[str, Any]:
        """Returns the non-empty states of the writers by name."""
        return {name: state for name, writer in self._writers.items() if (state := writer.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`; ignores writers that were added or removed since."""
        for name, writer in self._writers.items():
            if name in state:
                writer.load_state_dict(state[name])

    def _note(self, name: str, method: str, error: Exception) -> None:
        self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
        if name not in self._missed:
            _logger.warning(
                "the writer '%s' failed in %s (%s: %s): the run goes on, and the writer is left out if it fails %d "
                "times in a row",
                name,
                method,
                type(error).__name__,
                " ".join(str(error).split())[:200],
                _PATIENCE,
            )
        self._missed[name] = self._missed.get(name, 0) + 1
        _logger.debug("the writer '%s' failed in %s", name, method, exc_info=error)
