"""Archives that readers may interpret differently: ours rejects them, or reads the same as `torch.load`."""

import io
import struct
import tarfile
from collections.abc import Iterable

import pytest
import torch

from footplate.checkpoint.torch_file import read_content
from footplate.errors import CheckpointDamagedError, CheckpointError
from tests.checkpoint.packing import pack

_END_BYTES = 22
_ENTRY_BYTES = 46


def _number(number: int) -> bytes:
    """Returns the pickle of {"x": number}."""
    return b"\x80\x02}X\x01\x00\x00\x00xK" + bytes([number]) + b"s."


def _renamed(names: "Iterable[tuple[bytes, bytes]]", members: "dict[str, bytes]", **lies: int) -> bytes:
    packed = pack(members, **lies)  # type: ignore[arg-type]
    for old, new in names:
        packed = packed.replace(old, new)
    return packed


def _with_end(packed: bytes, place: int, value: int) -> bytes:
    """Returns an archive with another number in its end record."""
    changed = bytearray(packed)
    struct.pack_into("<H", changed, len(packed) - _END_BYTES + place, value)
    return bytes(changed)


def _with_entry(packed: bytes, place: int, form: str, value: int) -> bytes:
    """Returns an archive whose first member has another number in its local header."""
    changed = bytearray(packed)
    struct.pack_into(form, changed, place, value)
    return bytes(changed)


def _ends_apart() -> bytes:
    """Returns an archive with two end records for two directories, of `a/data.pkl` and of `b/data.pkl`."""
    whole = pack({"a/data.pkl": _number(1), "b/data.pkl": _number(2)})
    body, end = whole[:-_END_BYTES], struct.unpack("<4s4H2LH", whole[-_END_BYTES:])
    size, start = end[5] // 2, end[6]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, start + size)
    where = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body), 1)
    return body + record + where + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, start, 0)


def _tar() -> bytes:
    """Returns a tar archive whose first member name is a pickle of {"x": 1}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", encoding="latin-1", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("\x80\x02}U\x01xK\x01s."))
    return stream.getvalue()


_ONE, _TWO = {"a/data.pkl": _number(1)}, {"a/data.pkl": _number(1), "b/data.pkl": _number(2)}
_AMBIGUOUS = {
    "two roots": pack(_TWO),
    "two roots, the first without a pickle": pack({"b/version": b"3", **_ONE}),
    "a pickle below the root": pack({"a/version": b"3", "a/b/data.pkl": _number(1)}),
    "outside of the root": pack({**_ONE, "data.pkl": _number(2)}),
    "root of another case": pack({**_ONE, "A/data.pkl": _number(2)}),
    "pickle of another case": pack({**_ONE, "a/DATA.pkl": _number(2)}),
    "pickle of another case first": pack({"a/DATA.pkl": _number(2), **_ONE}),
    "twice": _renamed([(b"b/data.pkl", b"a/data.pkl")], _TWO),
    "twice, counted once": _renamed([(b"b/data.pkl", b"a/data.pkl")], _TWO, count=1),
    "counted once": pack(_TWO, count=1),
    "backslash": pack({**_ONE, "a\\data.pkl": _number(2)}),
    "double slash": pack({**_ONE, "a//data.pkl": _number(2)}),
    "way round": pack({**_ONE, "a/b/../data.pkl": _number(2)}),
    "absolute": pack({**_ONE, "/a/data.pkl": _number(2)}),
    "end of a string": _renamed([(b"a/data.pkl+x", b"a/data.pkl\0x")], {"a/data.pkl+x": _number(2), **_ONE}),
    "no text": _renamed([(b"a/data+pkl", b"a/data\xffpkl")], {**_ONE, "a/data+pkl": b""}),
    "bytes before": pack(_ONE, starts={"a/data.pkl": 1}),
    "directory of one of two": _ends_apart(),
    "several disks": _with_end(pack(_ONE), 4, 1),
    "directory on another disk": _with_end(pack(_ONE), 6, 1),
    "other count on this disk": _with_end(pack(_ONE), 8, 0),
    "other name in the header": _with_entry(pack(_ONE), 30, "<B", ord("b")),
    "other method in the header": _with_entry(pack(_ONE), 8, "<H", 8),
    "encrypted in the header": _with_entry(pack(_ONE), 6, "<H", 1),
    "other size in the header": _with_entry(pack(_ONE), 22, "<L", 3),
    "other packed size in the header": _with_entry(pack(_ONE), 18, "<L", 3),
    "other checksum in the header": _with_entry(pack(_ONE), 14, "<L", 3),
    "comment": pack(_ONE, tail=b"x"),
    "end record in a comment": pack(_ONE, tail=pack({"b/data.pkl": _number(2)})),
    "archive behind an archive": pack(_ONE) + pack({"b/data.pkl": _number(2)}),
    "archive behind bytes": b"x" + pack(_ONE),
    "tar": _tar(),
}


@pytest.mark.parametrize("name", _AMBIGUOUS)
def test_ambiguous_archives_are_rejected(name: str) -> None:
    with pytest.raises(CheckpointError):
        read_content(io.BytesIO(_AMBIGUOUS[name]))
    with pytest.raises(CheckpointError):
        read_content(io.BytesIO(_AMBIGUOUS[name]), device="meta")


@pytest.mark.parametrize(
    "name", ["two roots", "pickle of another case", "twice", "backslash", "directory of one of two"]
)
def test_message_says_that_the_archive_is_ambiguous(name: str) -> None:
    with pytest.raises(CheckpointDamagedError, match="ambiguous"):
        read_content(io.BytesIO(_AMBIGUOUS[name]))


def test_pickle_is_read_like_torch_reads_it() -> None:
    for members in (_ONE, {"a/": b"", **_ONE}, {**_ONE, "a/version": b"3\n"}):
        packed = pack(members)
        assert read_content(io.BytesIO(packed)).value == {"x": 1}
    assert torch.load(io.BytesIO(packed), weights_only=True) == {"x": 1}
