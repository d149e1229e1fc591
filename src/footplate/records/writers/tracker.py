"""What writers share that hand a run to a library: a run, started on first use, that a resumed one continues."""

import importlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from footplate.errors import ArgumentError, FootplateError, MissingExtraError
from footplate.messages import nearest
from footplate.records.writers.base import BaseVisBackend, moved, numbers_in
from footplate.storage import output_path

_FOLDER_KEYS = frozenset({"dir", "log_dir", "logdir"})
_PLACES = frozenset({"dir", "tracking_uri"})
_START = re.compile(r"\d{8}_\d{6}(?:_\d+)?")  # what `work_dir/<timestamp>` is called
_logger = logging.getLogger("footplate.records")


class Tracker(BaseVisBackend):
    """A writer whose library keeps runs.

    A subclass says how a run starts, takes numbers and ends: `_start`, `_write`, `_finish`. What names the run in the
    library's store goes into `identity`; checkpoints hold it, so that a resumed run continues the same one.

    Args:
        save_dir: The folder for its files, `work_dir/<timestamp>/vis_data` in a run.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        super().__init__(save_dir)
        self.identity: dict[str, Any] = {}
        self._run: Any = None
        self._never_started: Exception | None = None

    @property
    def folder(self) -> str:
        """Where the library may write; made on first use."""
        folder = os.path.abspath(self._save_dir or "vis_data")
        os.makedirs(folder, exist_ok=True)
        return folder

    @property
    def start(self) -> str:
        """The name of `work_dir/<timestamp>`, which goes into `identity`; empty where `save_dir` is another folder."""
        name = os.path.basename(os.path.dirname(os.path.abspath(self._save_dir or "vis_data")))
        return name if _START.fullmatch(name) else ""

    @property
    def experiment(self) -> Any:
        """The library's own object for the run, which is started on first use.

        A start that failed is not tried again until the writer was closed: it may have waited for a server.
        """
        if self._never_started is not None:
            raise self._never_started
        if self._run is None:
            try:
                self._run = self._start_or_continue()
            except Exception as error:
                self._never_started = error
                raise
        return self._run

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Writes one scalar; what is no number is left out."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Writes several scalars of one step; an own "step" entry takes the place of `step`."""
        found = numbers_in(scalar_dict)
        at = int(found.pop("step", step))
        if found:
            self._write(found, at)

    def close(self) -> None:
        """Finishes the run; what is written later continues it."""
        self._never_started = None
        if self._run is not None:
            self._finish()
            self._run = None

    def state_dict(self) -> dict[str, Any]:
        """Returns what names the run; empty where none was started."""
        return dict(self.identity)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues the run that `state` names."""
        self.identity = dict(state)
        for key in _PLACES & self.identity.keys():  # of an earlier version: the start is all that is taken from them
            found = _START.findall(str(self.identity.pop(key)))
            self.identity.setdefault("start", found[-1] if found else "")

    def _continued(self, path: str) -> str | None:
        """Returns where `path`, in `folder`, lies for the run to continue; None if nothing is there.

        The identity comes from a checkpoint, which may come from anywhere. Nothing but the time of an earlier start is
        taken from it, and the result lies in the same work_dir.
        """
        if self.identity and self.start:
            start = str(self.identity.get("start"))
            log_dir = os.path.dirname(self.folder)
            inside = os.path.join(start, os.path.relpath(path, log_dir))
            path = os.path.join(os.path.dirname(log_dir), inside)
            expected = os.path.join(os.path.realpath(os.path.dirname(log_dir)), inside)
            if not _START.fullmatch(start) or os.path.realpath(path) != expected:  # a link leads elsewhere
                return None
        return path if self.identity and os.path.exists(path) else None

    def _start_or_continue(self) -> Any:
        try:
            return self._start()
        except FootplateError:
            raise
        except Exception as error:
            if not self.identity:
                raise
            _logger.warning(
                "%s cannot continue the run %s (%s: %s): it starts a new one",
                type(self).__name__,
                self.identity,
                type(error).__name__,
                " ".join(str(error).split())[:200],
            )
            self.identity = {}
            return self._start()

    def _start(self) -> Any:
        """Starts or continues the run and returns the library's object for it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its run starts")

    def _write(self, values: dict[str, float], step: int) -> None:
        """Writes numbers of one step."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it writes")

    def _finish(self) -> None:
        """Ends the run."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its run ends")


class InitTracker(Tracker):
    """A writer whose library starts a run by one call, whose arguments a config gives as `init_kwargs`.

    Args:
        save_dir: The folder for its files.
        init_kwargs: Arguments of that call. Folders (`dir`, `log_dir`) are relative to `save_dir`.

    Raises:
        MissingExtraError: The library is not installed.
        ArgumentError: The call takes no such argument, or a folder leads out of `save_dir`.
    """

    package: ClassVar[str] = ""
    """The library, and the extra that installs it."""
    starter: ClassVar[str] = "init"
    """What the library starts a run with."""

    def __init__(self, save_dir: str | None = None, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._library = import_library(self.package, extra=self.package, why=type(self).__name__)
        self._init_kwargs = check_init_kwargs(attrgetter(self.starter)(self._library), init_kwargs)
        for key in _FOLDER_KEYS & self._init_kwargs.keys():
            folder = os.path.abspath(save_dir or "vis_data")
            self._init_kwargs[key] = output_path(folder, self._init_kwargs[key], key=f"init_kwargs.{key}")

    def move(self, before: str, now: str) -> None:
        """Replaces the folder in `init_kwargs` too."""
        super().move(before, now)
        for key in _FOLDER_KEYS & self._init_kwargs.keys():
            self._init_kwargs[key] = moved(self._init_kwargs[key], os.path.abspath(before), os.path.abspath(now))


class LoggingTracker(InitTracker):
    """A writer whose library has the words of Weights & Biases: `run.config`, `run.log`, `run.finish`, `Image`."""

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as that of the run."""
        self.experiment.config.update(config.to_dict())

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes a picture: `(H, W, 3)` or `(H, W)`, uint8, RGB."""
        self._log({name: self._library.Image(np.ascontiguousarray(image))}, step)

    def _write(self, values: dict[str, float], step: int) -> None:
        self._log(values, step)

    def _log(self, values: dict[str, Any], step: int) -> None:
        self.experiment.log(values, step=step)

    def _finish(self) -> None:
        self._run.finish()


def import_library(module: str, *, extra: str, why: str) -> Any:
    """Imports a library when it is needed.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], extra=extra, why=why) from error


def check_init_kwargs(function: Callable[..., Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns a copy of `given`, the arguments for `function`.

    Raises:
        ArgumentError: `function` takes no argument of that name.
    """
    known = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for name in given or ():
            if name not in known:
                near = nearest(name, known)
                raise ArgumentError(f"{_name(function)} takes no '{name}'", key=f"init_kwargs.{name}", suggestion=near)
    return dict(given or {})


def files_to_keep(folder: str | None, suffixes: Sequence[str] | str) -> list[str]:
    """Returns the files of `folder` whose names end with one of `suffixes`, sorted."""
    if folder is None or not os.path.isdir(folder):
        return []
    ends = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    return sorted(str(path) for path in Path(folder).iterdir() if path.is_file() and path.name.endswith(ends))


def _name(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", "").partition(".")[0]
    return f"{module}.{getattr(function, '__name__', 'init')}"
