"""Checkpoints designed to run code, write files or open sockets are harmless to all readers."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import find_latest, load_checkpoint, load_weights, read_contents, verify
from footplate.errors import CheckpointDamagedError, CheckpointError
from tests.checkpoint.gadgets import FORMS, GADGETS, Call, files, spelled

Pack = Callable[..., bytes]

_WATCHED = (
    *("exec", "compile", "import", "os.", "subprocess.", "socket.", "shutil.", "pty.", "ctypes.", "pickle."),
    *("webbrowser.", "urllib.", "tempfile.", "marshal.", "builtins.", "code."),
)
_HARMLESS = ("os.listdir", "os.scandir", "builtins.id")
_seen: list[tuple[str, tuple[Any, ...]]] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    writes = event == "open" and isinstance(args[1], str) and args[1] not in ("r", "rb")
    if writes or (event.startswith(_WATCHED) and event not in _HARMLESS):
        _seen.append((event, args))


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_watch)


@pytest.fixture
def seen() -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """The audit events about code, files, processes and sockets during the test."""
    global _seen
    for read in (load_checkpoint, verify, read_contents):  # import modules before recording
        with pytest.raises(CheckpointError):
            read("/nonexistent/a.pth")
    events: list[tuple[str, tuple[Any, ...]]] = []
    yield events
    _seen = None


def _read_all(path: Path) -> int:
    """Returns how many readers accepted the file."""
    fine = 0
    for read in (load_checkpoint, verify, read_contents, lambda path: load_weights(torch.nn.Linear(1, 1), path)):
        try:
            read(path)
            fine += 1
        except CheckpointError:
            continue
    find_latest(path.parent)
    return fine


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_executed(tmp_path: Path, seen: list[tuple[str, tuple[Any, ...]]], form: str) -> None:
    global _seen
    mark, path, fine = tmp_path / "mark", tmp_path / "a.pth", 0
    for name, args in GADGETS:
        for content in files(spelled(name, args, form, mark)):
            path.write_bytes(content)
            _seen = seen
            fine += _read_all(path)
            _seen = None
    assert fine >= len(GADGETS)  # they were read, not rejected at once
    assert seen == []
    assert not mark.exists()


def test_audit_hook_detects_executed_code(tmp_path: Path, seen: list[tuple[str, tuple[Any, ...]]]) -> None:
    global _seen
    mark = tmp_path / "mark"
    pickled = b"\x80\x02" + FORMS["reduce"](Call("os.mkdir", (str(mark),))) + b"."
    _seen = seen
    pickle.loads(pickled)
    _seen = None
    assert {event for event, _ in seen} >= {"os.mkdir", "pickle.find_class"}
    assert mark.exists()


@pytest.mark.parametrize("name", ["../../mark", "/tmp/mark", "a/../../mark", "a\\..\\mark", "a/data/../../mark"])
def test_member_names_have_no_effect_on_the_file_system(tmp_path: Path, pack: Pack, seen: list[Any], name: str) -> None:
    global _seen
    path = tmp_path / "sub" / "a.pth"
    path.parent.mkdir()
    path.write_bytes(pack({"a/data.pkl": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", name: b"x"}))
    _seen = seen
    with pytest.raises(CheckpointDamagedError, match="ambiguous"):
        load_checkpoint(path)
    _seen = None
    assert seen == []
    assert list(tmp_path.iterdir()) == [path.parent]
