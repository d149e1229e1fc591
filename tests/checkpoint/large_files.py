"""Small checkpoints that require much memory, in formats that `torch.save` could have written."""

import hashlib
import io
import pickle
import pickletools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.checkpoint.packing import pack


class Pickle:
    """Writes a pickle of protocol 2 opcode by opcode."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._slots = 0

    def keep(self, body: bytes) -> bytes:
        """Stores a value in the memo, and returns the opcodes that fetch it."""
        slot = struct.pack("<I", self._slots)
        self._slots += 1
        self.body += body + b"r" + slot + b"0"
        return b"j" + slot

    def end(self, body: bytes) -> bytes:
        """Returns the complete pickle with `body` as its value."""
        return b"\x80\x02" + bytes(self.body) + body + b"."


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _plain(value: Any) -> bytes:
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]  # without memo slots


def _named(values: "Iterator[bytes] | list[bytes]") -> bytes:
    return b"}(" + b"".join(_text(f"w{number}") + value for number, value in enumerate(values)) + b"u"


def _list(values: list[bytes]) -> bytes:
    return b"](" + b"".join(values) + b"e"


def _storage(count: int) -> bytes:
    return b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _plain(count) + b"tQ"


def _tensor(kept: Pickle, elements: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """Returns a tensor that is a view of a storage of `elements` numbers."""
    storage = kept.keep(_storage(elements))
    args = storage + _plain(offset) + _plain(size) + _plain(stride) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + args + b"tR"


def _copies(function: str, kept: Pickle, args: bytes, count: int) -> bytes:
    """Returns a list of `count` results of a function with the same arguments."""
    called = kept.keep(b"c" + "\n".join(function.rsplit(".", 1)).encode() + b"\n")
    given = kept.keep(args)
    return _list([called + given + b"R"] * count)


def _encoded(kept: Pickle, size: int) -> bytes:
    return kept.keep(b"c_codecs\nencode\n" + _text("a" * size) + b"\x85R")


def _array(kept: Pickle, size: int) -> bytes:
    """Returns the opcodes that fetch a numpy array of `size` bytes."""
    dtype = kept.keep(b"cnumpy\ndtype\n" + _text("u1") + b"\x85R")
    content = _encoded(kept, size)
    empty = b"cnumpy.core.multiarray\n_reconstruct\n)R"
    return kept.keep(empty + b"(K\x01" + _plain((size,)) + dtype + b"\x89" + content + b"tb")


def _arrays_of_one_bytearray(kept: Pickle, count: int) -> bytes:
    dtype = kept.keep(b"cnumpy\ndtype\n" + _text("u1") + b"\x85R")
    content = kept.keep(b"c__builtin__\nbytearray\n" + _encoded(kept, 60_000) + b"\x85R")
    state = kept.keep(b"(K\x01" + _plain((60_000,)) + dtype + b"\x89" + content + b"t")
    return _list([b"cnumpy.core.multiarray\n_reconstruct\n)R" + state + b"b"] * count)


def _from_buffer(kept: Pickle, count: int) -> bytes:
    dtype = kept.keep(b"cnumpy\ndtype\n" + _text("u1") + b"\x85R")
    content = kept.keep(b"c__builtin__\nbytearray\n" + _encoded(kept, 60_000) + b"\x85R")
    args = b"(" + content + dtype + _plain((60_000,)) + _text("C") + b"t"
    return _copies("numpy._core.numeric._frombuffer", kept, args, count)


def _from_array(kept: Pickle, count: int) -> bytes:
    args = b"(" + _array(kept, 60_000) + b"ctorch\nuint8\n" + _text("cpu") + b"\x89t"
    return _copies("torch._utils._rebuild_device_tensor_from_numpy", kept, args, count)


def _nested(kept: Pickle, leaf: bytes, levels: int, width: int) -> bytes:
    found = kept.keep(leaf)
    for _ in range(levels):
        found = kept.keep(_list([found] * width))
    return found


def _long_keys(kept: Pickle, text: bytes) -> bytes:
    return b"}(" + b"".join(b"(" + text * 60 + _plain(number) + b"tN" for number in range(3000)) + b"u"


def _module(kept: Pickle, tensor: bytes, levels: int, width: int) -> bytes:
    """Returns a pickled module that references the same submodules many times."""

    def made(parameters: bytes, modules: bytes) -> bytes:
        state = b"}(" + _text("_parameters") + parameters + _text("_modules") + modules + b"u"
        return b"ca\nModule\n)R" + state + b"b"

    found = kept.keep(made(_named([tensor]), b"}"))
    for _ in range(levels):
        found = kept.keep(made(b"}", _named([found] * width)))
    return found


def _pickles() -> dict[str, Callable[[Pickle], bytes]]:
    wide = (2048, 2048)
    return {
        "bytearrays": lambda kept: _named(
            [_copies("builtins.bytearray", kept, _encoded(kept, 60_000) + b"\x85", 20_000)]
        ),
        "arrays of one bytearray": lambda kept: _named([_arrays_of_one_bytearray(kept, 20_000)]),
        "arrays of buffers": lambda kept: _named([_from_buffer(kept, 20_000)]),
        "arrays as tensors": lambda kept: _named([_from_array(kept, 5_000)]),
        "one array under many keys": lambda kept: _named([_array(kept, 60_000)] * 40_000),
        "expanded": lambda kept: _named([_tensor(kept, 1, wide, (0, 0)) for _ in range(400)]),
        "one expanded tensor under many keys": lambda kept: _named([kept.keep(_tensor(kept, 1, wide, (0, 0)))] * 400),
        "expanded once": lambda kept: _named([_tensor(kept, 1, wide, (0, 0))]),
        "expanded bytes": lambda kept: _named([_tensor(kept, 1, (2048, 1024), (0, 0)) for _ in range(7)]),
        "expanded in the optimizer": lambda kept: b"}(" + _text("state_dict") + _named([_tensor(kept, 1, (1,), (1,))])
        + _text("optimizer") + _named([_tensor(kept, 1, wide, (0, 0)) for _ in range(400)]) + b"u",
        "many views": lambda kept: _named([_tensor(kept, 10_000, (9_000,), (1,), n % 1000) for n in range(20_000)]),
        "one tensor under many keys": lambda kept: _named([kept.keep(_tensor(kept, 10_000, (10_000,), (1,)))] * 20_000),
        "overlapping windows": lambda kept: _named([_tensor(kept, 10_000, (3_000, 1_000), (2, 1)) for _ in range(100)]),
        "lists in lists": lambda kept: b"}(" + _text("meta") + b"}(" + _text("seed") + _nested(kept, b"]", 30, 10)
        + b"u" + _text("state_dict") + _named([_tensor(kept, 1, (1,), (1,))]) + b"u",
        "tensors in lists": lambda kept: _named([_nested(kept, _tensor(kept, 1, wide, (0, 0)), 8, 10)]),
        "text in lists": lambda kept: b"}(" + _text("meta") + b"}(" + _text("epoch")
        + _nested(kept, _text("a" * 60_000), 3, 40) + b"u" + _text("w") + _tensor(kept, 1, (1,), (1,)) + b"u",
        "text in keys": lambda kept: _long_keys(kept, kept.keep(_text("a" * 60_000))),
        "modules": lambda kept: _named([_module(kept, _tensor(kept, 1, wide, (0, 0)), 8, 10)]),
        "many small tensors": lambda kept: _named([_list([kept.keep(b"ctorch._utils\n_rebuild_tensor_v2\n")
        + kept.keep(b"(" + kept.keep(_storage(1)) + _plain(0) + b")" + b")" + b"\x89Nt") + b"R"] * 400_000)]),
        "numbers": lambda kept: _named([_list([b"J\x00\x00\x00\x10"] * 5_000_000)]),
        "texts of four bytes a letter": lambda kept: _named([
            _list([b"X\x08\x00\x00\x00\xf0\x9f\x98\x80aaaa"] * 2_000_000)
        ]),
        "dicts": lambda kept: _named([_list([b"}(K\x01Nu"] * 1_000_000)]),
    }  # fmt: skip


def _sealed(archive: bytes) -> bytes:
    """Returns an archive with a valid footplate seal, which anyone can create."""
    comment = f"footplate-checkpoint 1 saved={1:020d} sha256=".encode()
    body = archive[:-2] + struct.pack("<H", len(comment) + 64) + comment
    return body + hashlib.sha256(body).hexdigest().encode()


def _old(pickled: bytes, elements: int) -> bytes:
    """Returns the format of torch before 1.6, in which storages follow the pickles."""
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(elements)}, stream, _use_new_zipfile_serialization=False)
    found = stream.getvalue()
    start = found.index(b"\x80\x02}q\x00X\x01\x00\x00\x00w")
    is_used = b"tQ" in pickled
    keys = b"\x80\x02]" + (_text("0") + b"a" if is_used else b"") + b"."
    content = struct.pack("<q", elements) + bytes(4 * elements) if is_used else b""
    return found[:start] + pickled.replace(b"tQ", b"NtQ") + keys + content


NAMES = tuple(_pickles())


def files() -> dict[str, tuple[bytes, bytes, bytes]]:
    """Returns the files by content: as an archive, as an archive with a seal, and in the old format."""
    made = {}
    for name, write in _pickles().items():
        kept = Pickle()
        pickled = kept.end(write(kept))
        elements = 10_000 if b"M\x10'" in pickled else 1
        archive = pack({"a/data.pkl": pickled, "a/data/0": bytes(4 * elements)})
        made[name] = archive, _sealed(archive), _old(pickled, elements)
    return made
