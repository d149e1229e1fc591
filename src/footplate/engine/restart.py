"""Detects runs that are started again in the same folder, by torchrun or by the user."""

import contextlib
import logging
import os

from footplate import storage
from footplate.distributed import broadcast_object, is_main_process

_logger = logging.getLogger("footplate.engine")
_MARK = ".began_with"
_LONGEST = 1 << 16  # maximum size of a pointer file, in bytes


class Restart:
    """Selects the checkpoint with which a run that torchrun restarts begins: the last one that it has committed itself.

    A run that starts over records which checkpoint the pointer file in its folder names. If the run fails before its
    first checkpoint, its restart then does not resume from that checkpoint, which is from an earlier run.

    Args:
        home: The folder of the checkpoints.
        work_dir: The local folder of the run.
    """

    def __init__(self, home: str, work_dir: str) -> None:
        self._home, self._mark = home, os.path.join(work_dir, _MARK)
        self._count, self._most = _number("TORCHELASTIC_RESTART_COUNT"), _number("TORCHELASTIC_MAX_RESTARTS")
        self._resumes = False

    def begins_with(self, load_from: str | None, resume: bool | str) -> tuple[str | None, bool | str]:
        """Returns the `load_from` and `resume` that apply. All ranks must call it."""
        self._resumes = bool(resume)
        if not self._count:
            if resume and (load_from is None or resume == "auto"):
                self._warn_of_later_start()
            return load_from, resume
        pointer = broadcast_object(self._pointer())
        if not pointer or (not resume and broadcast_object(self._noted()) == pointer):
            _logger.warning("restart %d of %d by torchrun: nothing was saved before", self._count, self._most)
            return load_from, resume
        self._resumes = True
        _logger.warning("restart %d of %d by torchrun: goes on from the last checkpoint", self._count, self._most)
        return None, True

    def note(self) -> None:
        """Records the current pointer when a run starts over in a folder that an earlier run has used."""
        if self._count or self._resumes or not is_main_process():
            return
        pointer = self._pointer()
        if pointer or self._most:
            with contextlib.suppress(OSError):
                storage.commit_bytes(self._mark, os.fsencode(pointer))

    def _warn_of_later_start(self) -> None:
        noted = self._noted() if is_main_process() else ""
        if noted and noted == self._pointer():
            _logger.warning(
                "%s: the latest run in this folder started over and saved no checkpoint. An earlier run is resumed. "
                "To start over, leave out resume.",
                self._home,
            )

    def _noted(self) -> str:
        try:
            return os.fsdecode(storage.read_bytes(self._mark, _LONGEST))
        except OSError:
            return ""

    def _pointer(self) -> str:
        """Returns content and time of the pointer file: a later checkpoint may have the same name."""
        path = storage.join(self._home, "last_checkpoint")
        try:
            told = os.fsdecode(storage.read_bytes(path, _LONGEST))
        except OSError:
            return ""
        return f"{told} {storage.status(path).modified}"


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
