"""The row of hostile archives: they are rejected within a second and 200 MB."""

import functools
import resource
import time
from pathlib import Path

from footplate.checkpoint import load_checkpoint
from footplate.errors import CheckpointError
from tests.checkpoint import hostile_files as hostile
from tests.faults.processes import in_child
from tests.faults.row import Fault, Finding, Trial

_MOST_SECONDS = 1.0
_MOST_BYTES = 200e6
_LIMIT_BYTES = 1 << 30
COUNT = 94


@functools.cache
def _files() -> list[tuple[str, bytes]]:
    return list(hostile.files().items())


def begin_hostile(folder: Path) -> Trial:
    """Prepares trials that each load one hostile file in a process with limited memory."""

    def trial(seed: int, fault: Fault | None) -> Finding:
        name, content = _files()[seed]
        path = folder / "a.pth"
        path.write_bytes(content)
        try:
            ended, seconds, grown = in_child(functools.partial(_load, path, fault), patience=30.0)
        except RuntimeError as error:
            return Finding(f"{name}: {error}")
        wrong = ended
        if not wrong and (seconds > _MOST_SECONDS or grown > _MOST_BYTES):
            wrong = f"refused after {seconds:.1f} s and {grown / 1e6:.0f} MB"
        return Finding(wrong and f"{name}: {wrong}", {"count": 1, "seconds": seconds, "MB": grown / 1e6})

    return trial


def _load(path: Path, fault: Fault | None) -> tuple[str, float, float]:
    """Returns what was wrong, the CPU seconds, and the memory growth in bytes."""
    if fault is not None:
        fault()
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + _LIMIT_BYTES, resource.RLIM_INFINITY))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        load_checkpoint(path)
        wrong = "loaded"
    except CheckpointError:
        wrong = ""
    except BaseException as error:  # noqa: BLE001 - anything else is a fault
        wrong = f"{type(error).__name__}: {error}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return wrong, time.process_time() - start, float(grown)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
