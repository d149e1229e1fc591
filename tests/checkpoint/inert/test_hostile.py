"""Archives made to fill the memory or to take forever are refused within a second and 200 MB."""

import io
import os
import pickle
import resource
import signal
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from footplate.checkpoint import load_checkpoint
from footplate.errors import CheckpointError

Pack = Callable[..., bytes]

_MOST_SECONDS = 1.0
_MOST_BYTES = 200e6
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


def _archives(pack: Pack) -> dict[str, bytes]:
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


def _load_in_child(path: Path) -> tuple[str, float, float]:
    """Returns how loading ended, its seconds of processor time and the bytes by which the process grew."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        signal.alarm(30)
        before, start, ended = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "loaded"
        try:
            load_checkpoint(path)
        except CheckpointError:
            ended = "refused"
        except BaseException as error:
            ended = repr(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(writer, f"{ended}|{time.process_time() - start}|{grown}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        ended, seconds, grown_text = (told.read() or "killed|99|0").split("|")
    return ended, float(seconds), float(grown_text)


def _check(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path.write_bytes(content)
        ended, seconds, grown = _load_in_child(path)
        assert (name, ended) == (name, "refused")
        assert seconds < _MOST_SECONDS, name
        assert grown < _MOST_BYTES, name


def test_absurd_shapes_are_refused(tmp_path: Path, pack: Pack) -> None:
    shapes = _shapes()
    _check(tmp_path / "a.pth", {name: pack({"a/data.pkl": it, "a/data/0": bytes(8)}) for name, it in shapes.items()})
    assert len(shapes) >= 30


def test_absurd_pickles_are_refused(tmp_path: Path, pack: Pack) -> None:
    _check(tmp_path / "a.pth", {name: pack({"a/data.pkl": it}) for name, it in _pickles().items()})


def test_absurd_plain_pickles_are_refused(tmp_path: Path) -> None:
    _check(tmp_path / "a.pkl", {name: it for name, it in _pickles().items() if it[:1] == b"\x80"})


def test_absurd_archives_are_refused(tmp_path: Path, pack: Pack) -> None:
    _check(tmp_path / "a.pth", _archives(pack))


def test_absurd_old_files_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.arange(100.0)}, stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    longer = {str(n): whole.replace(b"Kd", pickle.dumps(n, 2)[2:-1]) for n in _HUGE}
    _check(tmp_path / "a.pth", longer)
