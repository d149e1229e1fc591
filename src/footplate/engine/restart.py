"""Runs that torchrun has started again, after a process of theirs had failed."""

import contextlib
import logging
import os

from footplate import storage
from footplate.distributed import broadcast_object, is_main_process

_logger = logging.getLogger("footplate.engine")
_MARK = ".began_with"


class Restart:
    """What a run that torchrun starts again begins with: the last checkpoint that it has committed itself.

    A run that does not resume notes where the pointer of its folder stood, so that when it fails before its first
    checkpoint, it does not go on from that of an earlier run in the same folder.

    Args:
        home: The folder of the checkpoints.
        work_dir: The local folder of the run.
    """

    def __init__(self, home: str, work_dir: str) -> None:
        self._home, self._mark = home, os.path.join(work_dir, _MARK)
        self._count, self._most = _number("TORCHELASTIC_RESTART_COUNT"), _number("TORCHELASTIC_MAX_RESTARTS")
        self._resumes = False

    def begins_with(self, load_from: str | None, resume: bool | str) -> tuple[str | None, bool | str]:
        """Returns `load_from` and `resume` as they count; each rank calls it."""
        self._resumes = bool(resume)
        if not self._count:
            return load_from, resume
        pointer = broadcast_object(self._pointer())
        if not pointer or (not resume and broadcast_object(self._noted()) == pointer):
            _logger.warning("restart %d of %d by torchrun: nothing was saved before", self._count, self._most)
            return load_from, resume
        self._resumes = True
        _logger.warning("restart %d of %d by torchrun: goes on from the last checkpoint", self._count, self._most)
        return None, True

    def note(self) -> None:
        """Notes where the pointer stands when a run begins that may be started again."""
        if self._most and not self._count and not self._resumes and is_main_process():
            with contextlib.suppress(OSError):
                storage.commit_bytes(self._mark, self._pointer().encode())

    def _noted(self) -> str:
        try:
            return storage.read_bytes(self._mark).decode()
        except OSError:
            return ""

    def _pointer(self) -> str:
        """What the pointer says and since when: a checkpoint of the same name may come again."""
        path = storage.join(self._home, "last_checkpoint")
        try:
            told = storage.read_bytes(path).decode()
        except OSError:
            return ""
        return f"{told} {storage.status(path).modified}"


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
