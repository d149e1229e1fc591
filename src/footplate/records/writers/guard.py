"""Writers told together, so that one that fails takes neither the run nor the others with it."""

import logging
from collections.abc import Mapping
from typing import Any

from footplate.errors import FootplateError
from footplate.records.writers.base import BaseVisBackend

_logger = logging.getLogger("footplate.records")
_PATIENCE = 3


class GuardedWriters:
    """Tells every writer the same.

    A writer that fails (its disk is full, its server is gone) is warned of once. It is tried again with what comes
    next; after three failures in a row it is left out. A user's mistake, a FootplateError, is not held back.

    Args:
        writers: The writers by name; later entries count too.
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
            except Exception as error:  # whatever a library raises, the run goes on
                self._note(name, method, error)

    def close(self) -> None:
        """Lets every writer finish, and says what each of them missed."""
        self.tell("close")
        for name, missed in self._missed.items():
            _logger.info("the writer '%s' missed %d of the calls that it was told", name, missed)
        self._missed.clear()
        self._in_a_row.clear()

    def state_dict(self) -> dict[str, Any]:
        """Returns, by name of the writer, what a resumed run needs to continue."""
        return {name: state for name, writer in self._writers.items() if (state := writer.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave; writers that are no more, or new, are left alone."""
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
