"""Defines base classes of writers for tracking libraries, which start a run on first use and continue it on resume."""

import inspect
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from footplate.errors import ArgumentError, FootplateError, import_optional
from footplate.messages import nearest
from footplate.records.writers.base_writer import BaseVisBackend, moved, numbers_in
from footplate.storage import output_path

_FOLDER_KEYS = frozenset({"dir", "log_dir", "logdir"})
_OLD_PLACES = frozenset({"dir", "tracking_uri"})  # keys of the identity in earlier versions
_START = re.compile(r"\d{8}_\d{6}(?:_\d+)?")  # the name of `work_dir/<timestamp>`
_logger = logging.getLogger("footplate.records")


class Tracker(BaseVisBackend):
    """A writer for a library that manages runs.

    A subclass implements `_start`, `_write` and `_finish`. It stores the values that identify the run in `identity`.
    Checkpoints include them, so that a resumed run continues the same run of the library.

    Args:
        save_dir: The folder for the library's files, `work_dir/<timestamp>/vis_data` in a run.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        super().__init__(save_dir)
        self.identity: dict[str, Any] = {}
        self._run: Any = None
        self._start_error: Exception | None = None

    @property
    def folder(self) -> str:
        """The folder for the library's files, which is created on first use."""
        folder = os.path.abspath(self._save_dir or "vis_data")
        os.makedirs(folder, exist_ok=True)
        return folder

    @property
    def start(self) -> str:
        """The name of the folder `work_dir/<timestamp>`, or "" if `save_dir` is a custom folder."""
        name = os.path.basename(os.path.dirname(os.path.abspath(self._save_dir or "vis_data")))
        return name if _START.fullmatch(name) else ""

    @property
    def experiment(self) -> Any:
        """The library's object for the run. The first access starts the run.

        If the run that `identity` describes cannot be continued, a new run is started. After a failed start, the same
        error is raised until the writer is closed, because another start might wait for a server again.
        """
        if self._start_error is not None:
            raise self._start_error
        if self._run is None:
            continued = self.identity
            try:
                self._run = self._start()
            except Exception as error:
                self._start_error = error
                if not continued or isinstance(error, FootplateError):
                    raise
                _logger.warning(
                    "%s cannot continue the run %s (%s: %s). Starting a new run.",
                    type(self).__name__,
                    continued,
                    type(error).__name__,
                    " ".join(str(error).split())[:200],
                )
                self.identity, self._start_error = {}, None
                return self.experiment
        return self._run

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Writes a scalar. Ignores values that are not numbers."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Writes several scalars of the same step. An entry "step" replaces the argument `step`."""
        found = numbers_in(scalar_dict)
        at = int(found.pop("step", step))
        if found:
            self._write(found, at)

    def close(self) -> None:
        """Finishes the run. Later writes continue it."""
        self._start_error = None
        if self._run is not None:
            self._finish()
            self._run = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the values that identify the run, or an empty dict if it was not started."""
        return dict(self.identity)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets the values that identify the run to continue."""
        self.identity = dict(state)
        for key in _OLD_PLACES & self.identity.keys():  # only the start time is used
            found = _START.findall(str(self.identity.pop(key)))
            self.identity.setdefault("start", found[-1] if found else "")

    def _continued(self, path: str) -> str | None:
        """Returns the path that corresponds to `path` in the run to continue, or None if it does not exist.

        The identity comes from a checkpoint that may not be trustworthy. Therefore, only the time of an earlier start
        is used, and the result is always in the same work_dir.
        """
        if self.identity and self.start:
            start = str(self.identity.get("start"))
            log_dir = os.path.dirname(self.folder)
            inside = os.path.join(start, os.path.relpath(path, log_dir))
            path = os.path.join(os.path.dirname(log_dir), inside)
            expected = os.path.join(os.path.realpath(os.path.dirname(log_dir)), inside)
            if not _START.fullmatch(start) or os.path.realpath(path) != expected:  # a symbolic link points outside
                return None
        return path if self.identity and os.path.exists(path) else None

    def _start(self) -> Any:
        """Starts or continues the run and returns the library's object for it."""
        raise NotImplementedError(f"{type(self).__name__} must implement _start")

    def _write(self, values: Mapping[str, float], step: int) -> None:
        """Writes the numbers of a step."""
        raise NotImplementedError(f"{type(self).__name__} must implement _write")

    def _finish(self) -> None:
        """Ends the run."""
        raise NotImplementedError(f"{type(self).__name__} must implement _finish")


class InitTracker(Tracker):
    """A writer for a library that starts a run with a single call, to which `init_kwargs` are passed.

    Args:
        save_dir: The folder for the library's files.
        init_kwargs: Arguments of the call. Folders (`dir`, `log_dir`) are relative to `save_dir`.

    Raises:
        MissingExtraError: The library is not installed.
        ArgumentError: The call has no such argument, or a folder is outside `save_dir`.
    """

    package: ClassVar[str] = ""
    """The name of the library and of the extra that installs it."""
    starter: ClassVar[str] = "init"
    """The function of the library that starts a run."""

    def __init__(self, save_dir: str | None = None, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._library = import_optional(self.package, extra=self.package, why=type(self).__name__)
        self._init_kwargs = check_init_kwargs(attrgetter(self.starter)(self._library), init_kwargs)
        for key in _FOLDER_KEYS & self._init_kwargs.keys():
            folder = os.path.abspath(save_dir or "vis_data")
            self._init_kwargs[key] = output_path(folder, self._init_kwargs[key], key=f"init_kwargs.{key}")

    def move(self, before: str, now: str) -> None:
        """Replaces the folder `before` with `now` in `save_dir` and `init_kwargs`."""
        super().move(before, now)
        for key in _FOLDER_KEYS & self._init_kwargs.keys():
            self._init_kwargs[key] = moved(self._init_kwargs[key], os.path.abspath(before), os.path.abspath(now))


def check_init_kwargs(function: Callable[..., Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Checks the names of arguments for `function`, and returns a copy of the arguments.

    Raises:
        ArgumentError: `function` does not have one of the arguments.
    """
    known = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for name in given or ():
            if name not in known:
                module = getattr(function, "__module__", "").partition(".")[0]
                title = f"{module}.{getattr(function, '__name__', 'init')}"
                near = nearest(name, known)
                raise ArgumentError(f"{title} has no argument '{name}'", key=f"init_kwargs.{name}", suggestion=near)
    return dict(given or {})


def files_to_upload(folder: str | None, suffixes: Sequence[str] | str) -> list[str]:
    """Returns the files in `folder` whose names end with one of `suffixes`, sorted."""
    if folder is None or not os.path.isdir(folder):
        return []
    ends = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    return sorted(str(path) for path in Path(folder).iterdir() if path.is_file() and path.name.endswith(ends))
