"""Archives designed to exhaust memory or time are rejected with little time and memory."""

import os
import resource
import signal
import time
import warnings
from pathlib import Path

import pytest

from footplate.checkpoint import load_checkpoint
from footplate.errors import CheckpointError
from tests.checkpoint import hostile_files as hostile

_MOST_SECONDS = 1.0
_MOST_BYTES = 200e6


def _load_in_child(path: Path) -> tuple[str, float, float]:
    """Returns the outcome of loading, its CPU seconds, and the memory growth in bytes."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        signal.alarm(30)
        before, start, ended = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "loaded"
        try:
            load_checkpoint(path)
        except CheckpointError:
            ended = "refused"
        except BaseException as error:
            ended = repr(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(writer, f"{ended}|{time.process_time() - start}|{grown}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        ended, seconds, grown_text = (told.read() or "killed|99|0").split("|")
    return ended, float(seconds), float(grown_text)


@pytest.mark.parametrize("kind", ["shape", "pickle", "plain pickle", "archive", "before 1.6"])
def test_hostile_files_are_rejected(tmp_path: Path, kind: str) -> None:
    files = {name: content for name, content in hostile.files().items() if name.startswith(f"{kind}:")}
    path = tmp_path / "a.pth"
    for name, content in files.items():
        path.write_bytes(content)
        for _ in range(3):  # a busy machine takes more processor time for the same work
            ended, seconds, grown = _load_in_child(path)
            if seconds < _MOST_SECONDS:
                break
        assert (name, ended) == (name, "refused")
        assert seconds < 2 * _MOST_SECONDS, name
        assert grown < _MOST_BYTES, name
    assert len(files) >= 6
