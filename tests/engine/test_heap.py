import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.engine.heap import keep_freed_memory

CPU = torch.device("cpu")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource, sys
import torch
from footplate.engine.heap import keep_freed_memory

keep_freed_memory(torch.device("cpu"))

def iteration():
    kept = [torch.zeros(1 << 21, dtype=torch.uint8) for _ in range(60)]

iteration(), iteration()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    iteration()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture
def wishes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Returns the recorded calls of mallopt."""
    told: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        told.append((option, value))
        return int(value != 1 << 30)  # as in an older C library, which rejects this value

    monkeypatch.setattr(ctypes, "pythonapi", SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in [each for each in os.environ if each.startswith("MALLOC_") or each == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    return told


def test_memory_is_kept_for_a_training_on_a_cpu(wishes: list[tuple[int, int]]) -> None:
    keep_freed_memory(CPU)
    assert wishes == [(-3, 1 << 30), (-3, 1 << 25), (-1, (1 << 31) - 1)]


@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_wishes_stays(
    wishes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    keep_freed_memory(CPU)
    assert wishes == []


def test_nothing_is_changed_elsewhere(wishes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory(torch.device("cuda"))
    monkeypatch.setattr(ctypes, "pythonapi", SimpleNamespace())  # a library without mallopt
    keep_freed_memory(CPU)
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory(CPU)
    assert wishes == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
@pytest.mark.skipif(HUGE_PAGES.is_file() and "[always]" in HUGE_PAGES.read_text(), reason="pages of 2 MB")
def test_iterations_map_no_memory_anew() -> None:
    """Each iteration uses 120 MB, or 30,000 pages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def faults(**variables: Any) -> int:
        done = subprocess.run(
            [sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True, env={**clean, **variables}
        )
        return int(done.stdout)

    assert faults() < 1_000
    # Checks that page faults are counted: with this setting, the library always returns memory.
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 100_000
