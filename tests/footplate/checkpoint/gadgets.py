"""Pickles that call functions that must never be called."""

import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.footplate.checkpoint.packing import pack

# Function and arguments; the file {mark} must not be created.
GADGETS: list[tuple[str, tuple[Any, ...]]] = [
    ("os.system", ("touch {mark}",)),
    ("os.popen", ("touch {mark}",)),
    ("os.mkdir", ("{mark}",)),
    ("subprocess.Popen", (["touch", "{mark}"],)),
    ("builtins.exec", ("open('{mark}', 'w')",)),
    ("builtins.eval", ("open('{mark}', 'w')",)),
    ("builtins.open", ("{mark}", "w")),
    ("builtins.__import__", ("antigravity",)),
    ("builtins.getattr", ("os", "system")),
    ("importlib.import_module", ("antigravity",)),
    ("shutil.copy", ("/etc/hostname", "{mark}")),
    ("socket.create_connection", (("localhost", 9),)),
    ("ctypes.CDLL", ("libc.so.6",)),
    ("pickle.loads", (b"cos\ngetpid\n)R.",)),
    ("torch.load", ("{mark}",)),
    ("torch.storage._load_from_bytes", (b"x",)),
    ("functools.partial", ("print",)),
    ("operator.methodcaller", ("system", "touch {mark}")),
    ("footplate.registry.HOOKS.build", ({"type": "CheckpointHook"},)),
]


class Call:
    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.module, _, self.function = name.rpartition(".")
        self.args = pickle.dumps(args, 2)[2:-1]

    @property
    def name(self) -> bytes:
        return f"c{self.module}\n{self.function}\n".encode()


FORMS: dict[str, Callable[[Call], bytes]] = {
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


def files(pickled: bytes) -> Iterator[bytes]:
    """Yields a pickle as a torch archive, as a plain pickle, and in the file format of torch before 1.6."""
    yield pack({"a/data.pkl": pickled, "a/data/0": bytes(8), "a/version": b"3\n"})
    yield pickled
    stream = io.BytesIO()
    torch.save({}, stream, _use_new_zipfile_serialization=False)
    yield stream.getvalue().replace(b"\x80\x02}q\x00.", pickled)


def spelled(name: str, args: tuple[Any, ...], form: str, mark: object) -> bytes:
    """Returns the pickle of a state that calls a function, in one of the forms.

    Args:
        name: The function's full name.
        args: The arguments; `{mark}` is replaced.
        form: One of `FORMS`.
        mark: The file that must not be created.
    """
    filled = tuple(arg.format(mark=mark) if isinstance(arg, str) else arg for arg in args)
    return b"\x80\x02}X\x0a\x00\x00\x00state_dict" + FORMS[form](Call(name, filled)) + b"s."
