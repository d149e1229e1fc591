import io
import random
import zipfile
import zlib
from collections.abc import Callable

import pytest
import torch

from footplate.checkpoint.zip_archive import Archive
from footplate.errors import CheckpointDamagedError, CheckpointError

Pack = Callable[..., bytes]
_GOOD = {"a/data.pkl": b"N.", "a/data/0": b"12345678"}


def test_members_are_read(pack: Pack) -> None:
    archive = Archive(io.BytesIO(pack(_GOOD)))
    assert archive.root == "a"
    assert "data/0" in archive
    assert "data/1" not in archive
    assert archive.size_of("data/0") == 8
    assert archive.read("data/0", verify=True) == b"12345678"
    archive.verify()


def test_files_written_by_torch_are_read() -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.arange(3.0)}, stream)
    archive = Archive(stream)
    archive.verify()
    assert archive.read("data/0", verify=True) == torch.arange(3.0).numpy().tobytes()


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"count": 3}, "the number of members in its directory"),
        ({"sizes": {"a/data/0": 1 << 30}}, "overlaps"),
        ({"sizes": {"a/data.pkl": 40}}, "overlaps"),
        ({"starts": {"a/data/0": 0}}, "overlaps"),
        ({"starts": {"a/data/0": 1 << 31}}, "overlaps"),
        ({"method": 8}, "compressed"),
        ({"count": 60_000, "tail": b"x"}, "end of the archive"),
    ],
)
def test_inconsistent_archives_are_rejected(pack: Pack, lies: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        Archive(io.BytesIO(pack(_GOOD, **lies)))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "not written by torch.save"),
        ({"a/other": b""}, "not written by torch.save"),
        ({"a/data.pkl": b"N.", "b/data.pkl": b"N."}, "'b/data.pkl' is outside its folder 'a'"),
        ({"a/data.pkl": b"N.", "a/constants.pkl": b"N."}, "TorchScript"),
    ],
)
def test_other_archives_are_recognized(pack: Pack, members: dict[str, bytes], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        Archive(io.BytesIO(pack(members)))


@pytest.mark.parametrize("place", [0, -22])
def test_unexpected_bytes_are_detected(pack: Pack, place: int) -> None:
    packed = pack(_GOOD)
    with pytest.raises(CheckpointDamagedError, match="its ZIP central directory is misplaced"):
        Archive(io.BytesIO(packed[:place] + b"PK\x01\x02 junk" + packed[place:]))


def test_checksums_are_compared(pack: Pack) -> None:
    packed = pack(_GOOD)
    altered = packed.replace(b"12345678", b"12345679")
    archive = Archive(io.BytesIO(altered))
    assert archive.read("data/0", verify=False) == b"12345679"
    with pytest.raises(CheckpointDamagedError, match="CRC-32"):
        archive.verify()


def test_contradicting_header_is_detected(pack: Pack) -> None:
    packed = pack(_GOOD).replace(b"a/data/0", b"a/data/9", 1)
    with pytest.raises(CheckpointDamagedError, match="does not match the archive's central directory"):
        Archive(io.BytesIO(packed)).read("data/0", verify=True)
    packed = pack(_GOOD).replace(b"PK\x03\x04", b"PK\x03\x05")
    with pytest.raises(CheckpointDamagedError, match="has no header"):
        Archive(io.BytesIO(packed)).read("data/0", verify=True)


def test_missing_member_is_named_in_the_error(pack: Pack) -> None:
    with pytest.raises(CheckpointDamagedError, match="has no member 'data/7'"):
        Archive(io.BytesIO(pack(_GOOD))).size_of("data/7")


def test_compressed_archives_are_rejected() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="compressed"):
        Archive(stream)


def test_archives_with_numbers_of_64_bits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 4)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("a/data/0", b"12345678")
    found = Archive(stream)
    assert found.read("data/0", verify=True) == b"12345678"
    assert found.members["a/data/0"].checksum == zlib.crc32(b"12345678")


def test_any_bytes_give_an_archive_or_an_error(pack: Pack) -> None:
    generator = random.Random(1)
    whole = pack(_GOOD)
    refused = 0
    for _ in range(3000):
        altered = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            altered[generator.randrange(len(altered))] = generator.choice([0, 1, 255, generator.randrange(256)])
        try:
            Archive(io.BytesIO(bytes(altered))).verify()
        except CheckpointError:
            refused += 1
    assert refused > 1000
