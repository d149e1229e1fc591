"""Checkpoints made to run code, write files or open sockets do nothing of it, whatever reads them."""

import io
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import find_latest, load_checkpoint, load_weights, read_contents, verify
from footplate.errors import CheckpointError

Pack = Callable[..., bytes]

# Function and argument; {mark} is a file that must not appear.
_GADGETS: list[tuple[str, tuple[Any, ...]]] = [
    ("os.system", ("touch {mark}",)),
    ("posix.system", ("touch {mark}",)),
    ("nt.system", ("touch {mark}",)),
    ("os.popen", ("touch {mark}",)),
    ("os.mkdir", ("{mark}",)),
    ("os.execv", ("/bin/false", ["false"])),  # which would end the tests with an error
    ("os.spawnlp", (0, "touch", "touch", "{mark}")),
    ("subprocess.Popen", (["touch", "{mark}"],)),
    ("subprocess.check_output", (["touch", "{mark}"],)),
    ("builtins.exec", ("open('{mark}', 'w')",)),
    ("builtins.eval", ("open('{mark}', 'w')",)),
    ("__builtin__.eval", ("open('{mark}', 'w')",)),
    ("builtins.open", ("{mark}", "w")),
    ("io.open", ("{mark}", "w")),
    ("builtins.__import__", ("antigravity",)),
    ("builtins.compile", ("1", "x", "eval")),
    ("builtins.getattr", ("os", "system")),
    ("importlib.import_module", ("antigravity",)),
    ("runpy.run_path", ("{mark}",)),
    ("pty.spawn", (["touch", "{mark}"],)),
    ("shutil.copy", ("/etc/hostname", "{mark}")),
    ("pathlib.Path.touch", ("{mark}",)),
    ("tempfile.mkstemp", ()),
    ("webbrowser.open", ("http://localhost",)),
    ("urllib.request.urlopen", ("http://localhost",)),
    ("socket.create_connection", (("localhost", 9),)),
    ("ctypes.CDLL", ("libc.so.6",)),
    ("timeit.timeit", ("open('{mark}', 'w')",)),
    ("code.interact", ()),
    ("cProfile.run", ("open('{mark}', 'w')",)),
    ("pickle.loads", (b"cos\ngetpid\n)R.",)),
    ("marshal.loads", (b"N",)),
    ("torch.load", ("{mark}",)),
    ("torch.storage._load_from_bytes", (b"x",)),
    ("torch.hub.load", ("a/b", "c")),
    ("torch.serialization.load", ("{mark}",)),
    ("torch.utils._import_utils.dill_available", ()),
    ("numpy.load", ("{mark}",)),
    ("numpy.core.multiarray.fromfile", ("/etc/hostname",)),
    ("functools.partial", ("print",)),
    ("operator.methodcaller", ("system", "touch {mark}")),
    ("types.FunctionType", ("code", {})),
    ("logging.config.fileConfig", ("{mark}",)),
    ("footplate.storage.commit_bytes", ("{mark}", b"x")),
    ("footplate.registry.HOOKS.build", ({"type": "CheckpointHook"},)),
]


class _Call:
    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.module, _, self.function = name.rpartition(".")
        self.args = pickle.dumps(args, 2)[2:-1]

    @property
    def name(self) -> bytes:
        return f"c{self.module}\n{self.function}\n".encode()


_FORMS: dict[str, Callable[[_Call], bytes]] = {
    "reduce": lambda call: call.name + call.args + b"R",
    "newobj": lambda call: call.name + call.args + b"\x81",
    "newobj_ex": lambda call: call.name + call.args + b"}\x92",
    "inst": lambda call: b"(" + call.args + b"i" + call.name[1:],
    "obj": lambda call: b"(" + call.name + call.args + b"o",
    "build": lambda call: call.name + b")R" + call.args + b"b",
    "stack_global": lambda call: (
        b"\x8c%c%s" % (len(call.module), call.module.encode())
        + b"\x8c%c%s\x93" % (len(call.function), call.function.encode())
        + call.args
        + b"R"
    ),
    "from_type": lambda call: b"ctorch._tensor\n_rebuild_from_type_v2\n(" + call.name + b"N" + call.args + b"NtR",
    "parameter": lambda call: b"ctorch._utils\n_rebuild_parameter\n" + call.name + call.args + b"R\x85R",
    "in_ordered_dict": lambda call: b"ccollections\nOrderedDict\n]" + b"N" + call.name + call.args + b"R\x86a\x85R",
    "default_factory": lambda call: b"ccollections\ndefaultdict\n" + call.name + b"\x85R",
    "storage": lambda call: b"(X\x07\x00\x00\x00storage" + call.name + b"X\x01\x00\x00\x000h\x00NtQ",
    "as_key": lambda call: b"}" + call.name + call.args + b"RK\x01s",
}
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
    """What an audit hook saw of code, files, processes and sockets during the test."""
    global _seen
    for read in (load_checkpoint, verify, read_contents):  # imports of the first use are not the file's doing
        with pytest.raises(CheckpointError):
            read("/nonexistent/a.pth")
    events: list[tuple[str, tuple[Any, ...]]] = []
    yield events
    _seen = None


def _files(pickled: bytes, pack: Pack) -> Iterator[bytes]:
    yield pack({"a/data.pkl": pickled, "a/data/0": bytes(8)})
    yield pickled
    stream = io.BytesIO()
    torch.save({}, stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    yield whole.replace(b"\x80\x02}q\x00.", pickled)


def _read_all(path: Path) -> int:
    """Returns how many of the readers found the file in order."""
    fine = 0
    for read in (load_checkpoint, verify, read_contents, lambda path: load_weights(torch.nn.Linear(1, 1), path)):
        try:
            read(path)
            fine += 1
        except CheckpointError:
            continue
    find_latest(path.parent)
    return fine


@pytest.mark.parametrize("form", _FORMS)
def test_nothing_is_executed(tmp_path: Path, pack: Pack, seen: list[tuple[str, tuple[Any, ...]]], form: str) -> None:
    global _seen
    mark, path, fine = tmp_path / "mark", tmp_path / "a.pth", 0
    for name, args in _GADGETS:
        spelled = tuple(arg.format(mark=mark) if isinstance(arg, str) else arg for arg in args)
        body = _FORMS[form](_Call(name, spelled))
        pickled = b"\x80\x02}X\x0a\x00\x00\x00state_dict" + body + b"s."
        for content in _files(pickled, pack):
            path.write_bytes(content)
            _seen = seen
            fine += _read_all(path)
            _seen = None
    assert fine >= len(_GADGETS)  # they were read, not turned away at the door
    assert seen == []
    assert not mark.exists()


def test_the_watch_sees_what_torch_would_do(tmp_path: Path, seen: list[tuple[str, tuple[Any, ...]]]) -> None:
    global _seen
    mark = tmp_path / "mark"
    pickled = b"\x80\x02" + _FORMS["reduce"](_Call("os.mkdir", (str(mark),))) + b"."
    _seen = seen
    pickle.loads(pickled)
    _seen = None
    assert {event for event, _ in seen} >= {"os.mkdir", "pickle.find_class"}
    assert mark.exists()


@pytest.mark.parametrize("name", ["../../mark", "/tmp/mark", "a/../../mark", "a\\..\\mark", "a/data/../../mark"])
def test_names_of_members_lead_nowhere(tmp_path: Path, pack: Pack, seen: list[Any], name: str) -> None:
    global _seen
    path = tmp_path / "sub" / "a.pth"
    path.parent.mkdir()
    path.write_bytes(pack({"a/data.pkl": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", name: b"x"}))
    _seen = seen
    loaded = load_checkpoint(path)
    _seen = None
    assert loaded == {"a": 1}
    assert seen == []
    assert list(tmp_path.iterdir()) == [path.parent]
