"""Checkpoints designed to run code, write files or open sockets are harmless to all readers."""

import codecs
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import find_newest, load_checkpoint, load_weights, verify
from footplate.checkpoint.torch_file import read_content
from footplate.checkpoint.unpickler import _NAMES
from footplate.errors import CheckpointError
from footplate.tools.checkpoint_contents import read_contents
from tests.footplate.checkpoint.gadgets import FORMS, GADGETS, Call, files, spelled
from tests.footplate.checkpoint.sharded_examples import save, spoil

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
def seen(tmp_path: Path) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """The audit events about code, files, processes and sockets during the test."""
    global _seen
    codecs.lookup("latin1")
    for content in files(b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nprint\ns."):  # import modules before recording
        (tmp_path / "first.pth").write_bytes(content)
        _read_all(tmp_path / "first.pth")
    (tmp_path / "first.pth").unlink()
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
    find_newest(path.parent)
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


def test_nothing_is_executed_if_code_replaces_torch_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code bases set `weights_only=False` for every call."""
    mark, path, folder = tmp_path / "mark", tmp_path / "a.pth", save(tmp_path / "a.sharded", count=1)
    original = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **settings: original(*args, **{**settings, "weights_only": False}))
    pickled = b"\x80\x02" + FORMS["reduce"](Call("os.mkdir", (str(mark),))) + b"."
    for content in files(pickled):
        path.write_bytes(content)
        _read_all(path)
    spoil(folder, pickled)
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        load_checkpoint(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../../mark", "/tmp/mark"])
def test_member_names_have_no_effect_on_the_file_system(tmp_path: Path, pack: Pack, seen: list[Any], name: str) -> None:
    global _seen
    path = tmp_path / "sub" / "a.pth"
    path.parent.mkdir()
    members = {"a/version": b"3\n", "a/data.pkl": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", name: b"x"}
    path.write_bytes(pack(members))
    _seen = seen
    with contextlib.suppress(CheckpointError):
        assert load_checkpoint(path) == {"a": 1}
    _seen = None
    assert seen == []
    assert list(tmp_path.iterdir()) == [path.parent]


def test_a_pickle_cannot_change_what_it_may_call(pack: Pack) -> None:
    """The state of an object may contain attributes for `setattr`."""
    functions = {name: each for name, each in vars(torch._utils).items() if name.startswith("_rebuild")}
    before = {name: dict(vars(each)) for name, each in functions.items()}
    for full in (*_NAMES, "a.Class"):
        module, _, name = full.rpartition(".")
        state = b"(N}(X\x0c\x00\x00\x00__defaults__NX\x06\x00\x00\x00hacked" + b"K\x01ut"
        target = f"c{module}\n{name}\n".encode()
        with pytest.raises(CheckpointError):
            read_content(io.BytesIO(b"\x80\x02" + target + state + b"b."))
    assert before == {name: vars(each) for name, each in functions.items()}
    assert not hasattr(torch.UntypedStorage, "hacked")


def test_only_data_can_be_built() -> None:
    """Whoever adds a name to the list must be sure that no arguments make it reach other code."""
    assert sorted(name for name, value in _NAMES.items() if not isinstance(value, torch.dtype)) == [
        *("_codecs.encode", "builtins.bytes", "builtins.complex", "builtins.frozenset"),
        *("builtins.set", "collections.OrderedDict", "collections.defaultdict"),
        *("numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy._core.numeric._frombuffer"),
        *("numpy.dtype", "torch.Size", "torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_parameter"),
        *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3", "torch.device"),
        "torch.storage.UntypedStorage",
    ]


def test_texts_are_not_encoded_by_other_codecs() -> None:
    """Looking up a codec imports a module."""
    with pytest.raises(CheckpointError):
        read_content(io.BytesIO(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x0b\x00\x00\x00antigravity\x86R."))
