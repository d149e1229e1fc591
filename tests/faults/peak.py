"""The row of small files that require much memory: all readers stay within the same limit."""

import contextlib
import functools
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate.checkpoint import load_checkpoint, load_weights, memory_budget, torch_file
from footplate.cli.main import main
from footplate.errors import FootplateError
from tests.checkpoint import large_files as large
from tests.faults.processes import in_child
from tests.faults.row import Fault, Finding, Trial

_TIMES = 10
_LEAST_BYTES = 256e6
_MOST_SECONDS = 60.0
_FORMS = ("archive", "sealed archive", "form before 1.6")


def _command(*words: str) -> None:
    """Runs a command, which may reject the file with a clear error, but not fail in any other way."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = main(["checkpoint", *words])
    if code not in (0, 1, 2):
        raise RuntimeError(f"exit code {code}")


def _load(path: str) -> None:
    with contextlib.suppress(FootplateError):
        load_checkpoint(path)


def _load_into(path: str) -> None:
    with contextlib.suppress(FootplateError):
        load_weights(torch.nn.Linear(1, 1), path)


def _shard_and_consolidate(path: str) -> None:
    """Shards the file in two, and consolidates the shards; skipped if the file cannot be sharded."""
    _command("shard", path, "-o", f"{path}.two.sharded", "--parts", "2")
    if os.path.isdir(f"{path}.two.sharded"):
        _command("consolidate", f"{path}.two.sharded", "-o", f"{path}.two.pth")


_ACTS: dict[str, Callable[[str], None]] = {
    "show": lambda path: _command("show", "--all", path),
    "verify": lambda path: _command("verify", path),
    "export": lambda path: _command("export", path, "-o", f"{path}.out.pth"),
    "export to mmengine": lambda path: _command("export", path, "--layout", "mmengine", "-o", f"{path}.out.pth"),
    "export to safetensors": lambda path: _command("export", path, "-o", f"{path}.out.safetensors"),
    "average": lambda path: _command("average", path, path, "-o", f"{path}.out.pth"),
    "shard and consolidate": _shard_and_consolidate,
    "load": _load,
    "load_weights": _load_into,
}


@functools.cache
def _files() -> list[tuple[str, bytes]]:
    return [
        (f"{name}, {form}", content)
        for name, each in large.files().items()
        for form, content in zip(_FORMS, each, strict=True)
    ]


CASES = len(large.NAMES) * len(_FORMS)


def begin_memory(folder: Path) -> Trial:
    """Prepares trials of one file each, which every command reads in a separate process."""

    def trial(seed: int, fault: Fault | None) -> Finding:
        name, content = _files()[seed]
        path = folder / "a.pth"
        path.write_bytes(content)
        most, worst = max(_TIMES * len(content), _LEAST_BYTES), 0.0
        for what, act in _ACTS.items():
            try:
                grown, seconds = in_child(functools.partial(_measured, act, str(path), fault, most), patience=120.0)
            except RuntimeError as error:
                return Finding(f"{what} of {name}: {error}")
            worst = max(worst, grown)
            if grown > most or seconds > _MOST_SECONDS:
                return Finding(f"{what} of {name} took {grown / 1e6:.0f} MB and {seconds:.0f} s")
        return Finding("", {"MB": worst / 1e6})

    return trial


def _measured(act: Callable[[str], None], path: str, fault: Fault | None, most: float) -> tuple[float, float]:
    """Returns the peak memory growth in bytes, and the CPU seconds."""
    if fault is not None:
        fault()
    _limit_address_space(int(4 * most))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        act(path)
    except MemoryError:
        return 4 * most, 0.0
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return float(grown), time.process_time() - start


def _limit_address_space(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))


def _unbounded() -> None:
    memory_budget._LEAST = 1 << 60


def _uncounted() -> None:
    memory_budget.Budget.check_copies = lambda self, value: []  # type: ignore[method-assign]


def _raised_by_seals() -> None:
    whole = torch_file._ArchiveReader.__init__

    def begin(self: torch_file._ArchiveReader, *args: Any) -> None:
        whole(self, *args)
        self._budget.limit *= 1 if self._verify else 1000

    torch_file._ArchiveReader.__init__ = begin  # type: ignore[method-assign, assignment]


PLANTED: dict[str, Fault] = {
    "a file may take any memory": _unbounded,
    "copies of shared content are not counted": _uncounted,
    "a seal raises what may be taken": _raised_by_seals,
}
