"""Defines the base class of writers, a wrapper that calls several writers, and classes for unsupported services."""

import logging
import numbers
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from footplate.errors import ArgumentError, FootplateError
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")
_MAX_FAILURES = 3


class BaseVisBackend:
    """The base class of writers for scalars, images and the config.

    All methods do nothing by default. A subclass overrides the methods for the data that it can store.

    Args:
        save_dir: The output folder. A Visualizer sets it.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        self._save_dir = save_dir

    def move(self, before: str, now: str) -> None:
        """Replaces the folder `before` with `now` in `save_dir`. Called before anything is written."""
        self._save_dir = moved(self._save_dir, before, now)

    @property
    def experiment(self) -> Any:
        """The underlying object of the writer, such as a TensorBoard SummaryWriter."""
        return self

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Stores the config of the run."""

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Stores the graph of the model."""

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Stores an RGB image, a uint8 array `(H, W, 3)`."""

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Stores a scalar: a number, or a tensor with one element."""

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Stores several scalars of the same step.

        Args:
            scalar_dict: Maps names to numbers. An entry "step" replaces the argument `step`.
            step: The iteration or epoch.
            file_path: An additional file for these scalars if the writer stores files.
        """

    def close(self) -> None:
        """Finishes writing."""

    def state_dict(self) -> dict[str, Any]:
        """Returns a dict, without custom objects, that a resumed run needs to continue the output of this run."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`. Called before anything is written."""


def moved(path: Any, before: str, now: str) -> Any:
    """Replaces the parent folder `before` of a path with `now`. Returns other values unchanged.

    >>> moved("work/a/vis_data", "work/a", "work/b"), moved("work/ab", "work/a", "work/b"), moved(None, "a", "b")
    ('work/b/vis_data', 'work/ab', None)
    """
    is_below = isinstance(path, str) and path.startswith(os.path.join(before, ""))
    return now + path[len(before) :] if is_below else path


def numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """Converts numbers, and tensors and arrays with one element, to floats. Omits other values."""
    found = {}
    for name, value in values.items():
        try:
            number = value.item() if hasattr(value, "item") else value
        except (RuntimeError, ValueError):  # more than one element
            continue
        if isinstance(number, numbers.Real):
            found[name] = float(number)
    return found


class GuardedWriters:
    """Forwards each call to all writers.

    If a writer fails, for example because its disk is full or its server is down, a warning is logged once. The writer
    is called again for the next data, but skipped after three consecutive failures. A FootplateError is not suppressed,
    because it reports a user error.

    Args:
        writers: Maps names to writers. Writers that are added to the mapping later are called, too.
    """

    def __init__(self, writers: Mapping[str, BaseVisBackend]) -> None:
        self._writers = writers
        self._missed: dict[str, int] = {}
        self._failures: dict[str, int] = {}  # consecutive failures by name

    def call_all(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Calls `method` on every writer."""
        for name, writer in self._writers.items():
            if self._failures.get(name, 0) >= _MAX_FAILURES and method != "close":
                self._missed[name] += 1
                continue
            try:
                getattr(writer, method)(*args, **kwargs)
                self._failures[name] = 0
            except FootplateError:
                raise
            except Exception as error:  # an error in a library must not stop the run
                if name not in self._missed:
                    _logger.warning(
                        "The writer '%s' failed in %s (%s: %s). The run continues; the writer is skipped after %d "
                        "failures in a row.",
                        name,
                        method,
                        type(error).__name__,
                        " ".join(str(error).split())[:200],
                        _MAX_FAILURES,
                    )
                _logger.debug("The writer '%s' failed in %s.", name, method, exc_info=error)
                self._failures[name] = self._failures.get(name, 0) + 1
                self._missed[name] = self._missed.get(name, 0) + 1

    def close(self) -> None:
        """Closes all writers. Logs the number of calls that each writer missed."""
        self.call_all("close")
        for name, missed in self._missed.items():
            _logger.info("Calls that the writer '%s' missed: %d.", name, missed)
        self._missed.clear()
        self._failures.clear()

    def state_dict(self) -> dict[str, Any]:
        """Maps the names of writers to their non-empty states."""
        return {name: state for name, writer in self._writers.items() if (state := writer.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`. Ignores writers that were added or removed in the meantime."""
        for name, writer in self._writers.items():
            if name in state:
                writer.load_state_dict(state[name])


class Refused:
    """A base class for unsupported classes to which published configs refer. It must be the first base class.

    Raises:
        ArgumentError: The class is instantiated.
    """

    service: ClassVar[str] = ""
    """The service for which the class would be needed."""
    noun: ClassVar[str] = "writer"
    advice: ClassVar[str] = "register your own BaseVisBackend"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ArgumentError(
            f"footplate has no {self.noun} for {self.service}",
            key="type",
            found=type(self).__name__,
            notes=[f"Use another writer from docs/records.md, or {self.advice}."],
        )


@VISBACKENDS.register_module()
class NeptuneVisBackend(Refused, BaseVisBackend):
    """Raises an error, because Neptune is not supported."""

    service = "Neptune"


@VISBACKENDS.register_module()
class AimVisBackend(Refused, BaseVisBackend):
    """Raises an error, because Aim is not supported."""

    service = "Aim"
