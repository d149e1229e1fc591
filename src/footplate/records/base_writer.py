"""Base classes for writers."""

import inspect
import logging
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_keys
from footplate.error_context import at_key
from footplate.errors import FootplateError, import_optional
from footplate.messages import describe_exception
from footplate.storage import output_path

ImageArray = NDArray[np.uint8]
Scalars = Mapping[str, float]
_logger = logging.getLogger("footplate.records")
_START = re.compile(r"\d{8}_\d{6}(?:_\d+)?")  # the name of `work_dir/<timestamp>`


class BaseVisBackend:
    """Base class for writers of scalars, images and the config.

    By default, all methods do nothing. Subclasses override the methods for the data that they can store.

    Args:
        save_dir: The output folder, which is set by the Visualizer.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        self._save_dir = save_dir

    def move(self, before: str, now: str) -> None:
        """Replaces the folder `before` in `save_dir`, if present, with `now`. Called before anything is written."""
        if self._save_dir is not None and Path(self._save_dir).is_relative_to(before):
            self._save_dir = os.path.join(now, os.path.relpath(self._save_dir, before))

    @property
    def experiment(self) -> Any:
        """The library object that this writer wraps, such as a TensorBoard SummaryWriter."""
        return self

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Stores the config of the run."""

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Stores the model graph. Kept from MMEngine; only user code calls it."""

    def add_image(self, name: str, image: ImageArray, step: int = 0, **kwargs: Any) -> None:
        """Stores an RGB image, a uint8 array of shape `(H, W, 3)`."""

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Stores a scalar: a number, or a tensor with one element."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Stores several scalars for the same step.

        Args:
            scalar_dict: Numbers, keyed by name. An entry "step" overrides the argument `step`.
            step: The iteration or epoch.
            file_path: An additional file for these scalars, if the writer stores files.
        """

    def close(self) -> None:
        """Finishes writing."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs to continue this output, as a dict without custom objects."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `state_dict` returned. Called before anything is written."""


def numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """Converts numbers and one-element tensors and arrays to floats. Drops other values."""
    floats = {}
    for name, value in values.items():
        try:
            number = value.item() if hasattr(value, "item") else value
        except (RuntimeError, ValueError):  # more than one element
            continue
        if isinstance(number, numbers.Real):
            floats[name] = float(number)
    return floats


class Tracker(BaseVisBackend):
    """Base class for writers based on libraries that manage runs.

    Subclasses implement `_start`, `_write`, `_write_image` and `_finish`, and store the values that identify the run in
    `identity`. Checkpoints include the identity, so that a resumed run continues the library's run.

    Args:
        save_dir: The folder for the library's files, `work_dir/<timestamp>/vis_data` in a run.

    Raises:
        MissingExtraError: The library is not installed.
    """

    package: ClassVar[str]
    """The name of the library, and also the name of the footplate extra that installs it."""
    _artifact_suffix: Sequence[str] | str

    def __init__(self, save_dir: str | None = None) -> None:
        super().__init__(save_dir)
        self._import_library()
        self.identity: dict[str, Any] = {}
        self._run: Any = None
        self._start_error: Exception | None = None

    @property
    def _path(self) -> str:
        return os.path.abspath(self._save_dir or "vis_data")

    @property
    def folder(self) -> str:
        """The folder for the library's files, which is created on first use."""
        os.makedirs(self._path, exist_ok=True)
        return self._path

    @property
    def start(self) -> str:
        """The run's start time from `work_dir/<timestamp>`, or "" if `save_dir` is a custom folder."""
        name = os.path.basename(os.path.dirname(self._path))
        return name if _START.fullmatch(name) else ""

    @property
    def experiment(self) -> Any:
        """The library's object for the run. The first access starts the run.

        If the run in `identity` cannot be continued, starts a new run. After a failed start, raises the same error
        until the writer is closed, because another attempt might wait for a server again.
        """
        if self._start_error is not None:
            raise self._start_error
        if self._run is None:
            continued = self.identity
            try:
                self._run = self._start()
            except Exception as error:
                if not continued or isinstance(error, FootplateError):
                    self._start_error = error
                    raise
                _logger.warning(
                    "%s cannot continue the run %s (%s). Starting a new run.",
                    type(self).__name__,
                    continued,
                    describe_exception(error),
                )
                self.identity = {}
                return self.experiment
        return self._run

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Writes several scalars for the same step. An entry "step" overrides the argument `step`."""
        values = numbers_in(scalar_dict)
        step = int(values.pop("step", step))
        if values:
            self._write(values, step)

    def add_image(self, name: str, image: ImageArray, step: int = 0, **kwargs: Any) -> None:
        """Writes a uint8 image of shape `(H, W, 3)` (RGB) or `(H, W)` (grayscale)."""
        self._write_image(name, np.ascontiguousarray(image), step)

    def close(self) -> None:
        """Finishes the run. Any later write continues the run."""
        self._start_error = None
        if self._run is not None:
            self._finish()
            self._run = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the values that identify the run, or an empty dict if no run was started."""
        return dict(self.identity)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets the values that identify the run to continue."""
        self.identity = dict(state)

    def _continued(self, path: str) -> str | None:
        """Returns the path in the continued run's folder that corresponds to `path`, or None if it does not exist.

        The identity comes from a checkpoint, which may not be trustworthy. Only its start time is used, so the result
        is always in the same work_dir.
        """
        if self.identity and self.start:
            start = str(self.identity.get("start"))
            log_dir = os.path.dirname(self.folder)
            if not _START.fullmatch(start):
                return None
            path = os.path.join(os.path.dirname(log_dir), start, os.path.relpath(path, log_dir))
        return path if self.identity and os.path.exists(path) else None

    def _files_to_upload(self) -> list[str]:
        """Returns the sorted paths of the files in `save_dir` whose names end with one of the `_artifact_suffix`."""
        ends = self._artifact_suffix if isinstance(self._artifact_suffix, str) else tuple(self._artifact_suffix)
        files = Path(self._path).glob("*")
        return sorted(str(path) for path in files if path.name.endswith(ends) and path.is_file())

    def _import_library(self) -> Any:
        """Imports and returns the library. Does not store it, because modules cannot be deep-copied or pickled."""
        return import_optional(self.package, extra=self.package, why=type(self).__name__)

    def _start(self) -> Any:
        """Starts or continues the run and returns the library's object for it."""
        raise NotImplementedError

    def _write(self, values: Scalars, step: int) -> None:
        """Writes the scalars for one step."""
        raise NotImplementedError

    def _write_image(self, name: str, image: ImageArray, step: int) -> None:
        """Writes an image. The array is C-contiguous."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Ends the run."""
        raise NotImplementedError


class InitTracker(Tracker):
    """Base class for writers based on libraries that start a run with a single call, which receives `init_kwargs`.

    Args:
        save_dir: The folder for the library's files.
        init_kwargs: Arguments for the call. The folder `dir` is relative to `save_dir`.

    Raises:
        MissingExtraError: The library is not installed.
        ArgumentError: `init_kwargs` has an argument that the call does not accept, or a `dir` outside `save_dir`.
    """

    starter: ClassVar[str] = "init"
    """The name of the library function that starts a run."""

    def __init__(self, save_dir: str | None = None, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._init_kwargs = dict(init_kwargs or {})
        known = inspect.signature(attrgetter(self.starter)(self._import_library())).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            with at_key("init_kwargs"):
                check_keys("init_kwargs", self._init_kwargs, known)
        self._resolved_kwargs()

    def _resolved_kwargs(self) -> dict[str, Any]:
        """Returns `init_kwargs` with an absolute `dir`, after checking that it is inside `save_dir`."""
        return {
            key: output_path(self._path, value, key=f"init_kwargs.{key}") if key == "dir" else value
            for key, value in self._init_kwargs.items()
        }
