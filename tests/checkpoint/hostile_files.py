"""Archives and pickles designed to exhaust memory or time."""

import io
import pickle
import struct
import zipfile

import torch

from tests.checkpoint.packing import pack

_END_BYTES = 22

_HUGE = (2**31, 2**40, 2**62, 2**63, 2**70, -1)


def _bomb(method: int, size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a/data.pkl", bytes(size))
    return stream.getvalue()


def _tensor(size: tuple[object, ...], stride: tuple[object, ...], offset: object = 0, count: object = 2) -> bytes:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    numbers = b"".join(pickle.dumps(value, 2)[2:-1] for value in (offset, size, stride))
    counted = pickle.dumps(count, 2)[2:-1]
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + counted + b"tQ" + numbers + b"\x89NtR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + rebuilt + b"s."


def _meta(size: tuple[object, ...], stride: tuple[object, ...]) -> bytes:
    numbers = b"".join(pickle.dumps(value, 2)[2:-1] for value in (size, stride))
    call = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n" + numbers + b"\x89tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s."


def _shapes() -> dict[str, bytes]:
    shapes = {f"size {n}": _tensor((n,), (1,)) for n in _HUGE}
    shapes |= {f"stride {n}": _tensor((2,), (n,)) for n in _HUGE}
    shapes |= {f"offset {n}": _tensor((1,), (1,), offset=n) for n in _HUGE}
    shapes |= {f"count {n}": _tensor((1,), (1,), count=n) for n in _HUGE}
    shapes["expanded"] = _tensor((2**40,), (0,))
    shapes["many dimensions"] = _tensor((1,) * 100_000, (1,) * 100_000)
    shapes["product"] = _tensor((2**20, 2**20, 2**20), (0, 0, 0))
    shapes["unequal"] = _tensor((1, 1), (1,))
    shapes["words"] = _tensor(("a",), (1,))
    shapes["list"] = _meta([2**40], [1])  # type: ignore[arg-type]
    shapes["meta"] = _meta((2**60,), (2**60,))
    return shapes


def _nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def _memo_bomb() -> bytes:
    body = b"\x80\x02]q\x00"
    for level in range(200):
        body += b"]q%c(h%ch%ce" % (level + 1, level, level) if level < 198 else b""
    return body + b"."


def _pickles() -> dict[str, bytes]:
    large = pickle.dumps(list(range(50_000)), 2)[:-1] + b"q\x00"
    return {
        "empty lists": b"\x80\x02" + b"]" * 5_000_000 + b".",
        "empty sets": b"\x80\x02" + b"\x8f" * 5_000_000 + b".",
        "marks": b"\x80\x02" + b"(" * 5_000_000 + b".",
        "copied set": large + b"c__builtin__\nset\nq\x01" + b"h\x01h\x00\x85R" * 20_000 + b".",
        "copied dict": b"\x80\x02}q\x00(" + b"".join(b"J%sN" % struct.pack("<i", n) for n in range(50_000))
        + b"uccollections\nCounter\nq\x01" + b"h\x01h\x00\x85R" * 20_000 + b".",
        "copied bytes": b"\x80\x02X\x40\x42\x0f\x00" + b"a" * 1_000_000 + b"q\x00c_codecs\nencode\nq\x01"
        + b"h\x01h\x00\x85R" * 20_000 + b".",
        "long string": b"\x80\x02X\xff\xff\xff\x7fa.",
        "very long string": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        "very long bytes": b"\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x70a.",
        "long frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        "long number": b"\x80\x02\x8b\xff\xff\xff\x7fa.",
        "long decimal": b"I" + b"9" * 5_000_000 + b"\n.",
        "no end of line": b"c" + b"a" * 5_000_000,
        "far memo": b"\x80\x02Nr\xff\xff\xff\xff.",
        "nested lists": _nested(200_000),
        "memo": _memo_bomb(),
        "tuple key": b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",
        "number keys": b"\x80\x02}(" + b"".join(
            b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"N" for n in range(1, 100_000)
        ) + b"u.",
    }  # fmt: skip


def _zip64(end: tuple[int, ...], locator: int | None = None) -> bytes:
    """Returns an archive with a ZIP64 end record with the values of `end`: entries here, entries, size, start."""
    body = pack({"a/data.pkl": b"N."})[:-_END_BYTES]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *end)
    where = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body) if locator is None else locator, 1)
    escaped = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    return body + record + where + escaped


def _twice() -> bytes:
    """Returns an archive that lists its pickle twice."""
    packed = pack({"a/data.pkl": b"N.", "b/data.pkl": b"N."}, count=2)
    return packed.replace(b"b/data.pkl", b"a/data.pkl")


def _lies() -> dict[str, bytes]:
    directory = len(pack({"a/data.pkl": b"N."})) - _END_BYTES - 42
    return {
        "64 bits: entries": _zip64((2**62, 2**62, 56, directory)),
        "64 bits: size": _zip64((1, 1, 2**62, directory)),
        "64 bits: start": _zip64((1, 1, 56, 2**62)),
        "64 bits: both": _zip64((1, 1, 2**63, 2**63)),
        "64 bits: locator behind the end": _zip64((1, 1, 56, directory), locator=2**40),
        "64 bits: locator of itself": _zip64((1, 1, 56, directory), locator=0),
        "twice": _twice(),
        "long names": pack({"a/data.pkl": b"N.", **{f"a/{n}{'x' * 60_000}": b"" for n in range(1200)}}),
        "archive in archive": pack({"a/archive.pth": pack({"a/data.pkl": b"N."})}),
        "behind a comment": pack({"a/data.pkl": b"N."}, tail=pack({"b/data.pkl": b"N."})),
        "no directory": b"PK\x03\x04" + bytes(2_000_000),
        "ends only": b"PK\x03\x04" + b"PK\x05\x06" * 500_000,
    }


def _archives() -> dict[str, bytes]:
    good = {"a/data.pkl": _tensor((2,), (1,)), "a/data/0": bytes(8)}
    many = {f"a/data/{number}": b"" for number in range(110_000)}
    return {
        "deflated": _bomb(zipfile.ZIP_DEFLATED, 100_000_000),
        "bzip2": _bomb(zipfile.ZIP_BZIP2, 30_000_000),
        "method": pack(good, method=99),
        "large claim": pack(good, sizes={"a/data/0": 2**31}),
        "largest claim": pack(good, sizes={"a/data/0": 2**32 - 1}),
        "large pickle claim": pack(good, sizes={"a/data.pkl": 2**31}),
        "same place": pack({**good, "a/data/1": bytes(8)}, starts={"a/data/1": 0, "a/data/0": 0}),
        "overlap": pack({**good, "a/data/1": bytes(8)}, starts={"a/data/1": 20}),
        "outside": pack(good, starts={"a/data/0": 2**31}),
        "count": pack(good, count=65_000),
        "many members": pack({**good, **many}, count=0xFFFF),
    }


def _old_files() -> dict[str, bytes]:
    stream = io.BytesIO()
    torch.save({"w": torch.arange(100.0)}, stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    return {str(n): whole.replace(b"Kd", pickle.dumps(n, 2)[2:-1]) for n in _HUGE}


def files() -> dict[str, bytes]:
    """Returns the contents of all hostile files by description."""
    made = _pickles()
    return {
        **{f"shape: {name}": pack({"a/data.pkl": it, "a/data/0": bytes(8)}) for name, it in _shapes().items()},
        **{f"pickle: {name}": pack({"a/data.pkl": it}) for name, it in made.items()},
        **{f"plain pickle: {name}": it for name, it in made.items() if it[:1] == b"\x80"},
        **{f"archive: {name}": it for name, it in {**_archives(), **_lies()}.items()},
        **{f"before 1.6: {name}": it for name, it in _old_files().items()},
    }
