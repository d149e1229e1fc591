"""Any damage to the bytes of a checkpoint is detected."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint, verify
from footplate.errors import CheckpointDamagedError, CheckpointError
from tests.footplate.checkpoint.conftest import State

_PAGE = 512


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[bytes], str]:
    """Writes a checkpoint in a separate folder."""

    def write(content: bytes) -> str:
        path = tmp_path / "alone" / "a.pth"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return str(path)

    return write


@pytest.fixture
def whole(saved: str) -> bytes:
    return Path(saved).read_bytes()


def _assert_found(path: str) -> None:
    for read in (load_checkpoint, verify):
        with pytest.raises(CheckpointDamagedError):
            read(path)


def _flip(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_flipped_bits_are_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    end = (len(whole) - 145) * 8  # the end record and the digest
    for bit in (*random.Random(1).sample(range(end), 60), *range(end, len(whole) * 8, 5)):
        _assert_found(damaged(_flip(whole, bit)))


def test_truncations_are_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    for length in (*random.Random(2).sample(range(len(whole) - 200), 40), *range(len(whole) - 200, len(whole), 4)):
        _assert_found(damaged(whole[:length]))


def test_zeroed_pages_are_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    for start in range(0, len(whole), 200):
        zeroed = whole[:start] + bytes(min(_PAGE, len(whole) - start)) + whole[start + _PAGE :]
        if zeroed != whole:
            _assert_found(damaged(zeroed))


@pytest.mark.parametrize("extra", [b"\0", bytes(5000)])
def test_bytes_after_the_end_are_detected(whole: bytes, damaged: Callable[[bytes], str], extra: bytes) -> None:
    _assert_found(damaged(whole + extra))


def test_truncation_after_an_embedded_archive_is_detected(
    tmp_path: Path, whole: bytes, damaged: Callable[[bytes], str]
) -> None:
    torch.save({"inner": torch.ones(3)}, tmp_path / "inner.pth")
    inner = (tmp_path / "inner.pth").read_bytes()
    save_checkpoint({"blob": torch.frombuffer(bytearray(inner), dtype=torch.uint8)}, tmp_path / "outer.pth")
    outer = (tmp_path / "outer.pth").read_bytes()
    _assert_found(damaged(outer[: outer.index(inner) + len(inner)]))


def test_file_without_digest_is_verified_by_its_checksums(
    tmp_path: Path,
    make_state: State,
    same: Callable[..., bool],
    damaged: Callable[[bytes], str],
) -> None:
    torch.save(make_state(1), tmp_path / "theirs.pth")
    theirs = (tmp_path / "theirs.pth").read_bytes()
    assert verify(tmp_path / "theirs.pth").sha256 is None
    for bit in random.Random(6).sample(range(len(theirs) * 8), 60):
        path = damaged(_flip(theirs, bit))
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            continue
        assert same(loaded, make_state(1))  # the flip was in a date, or between members


def test_checkpoint_rewritten_by_torch_is_not_damaged(saved: str, same: Callable[..., bool]) -> None:
    state = torch.load(saved, weights_only=True)
    torch.save(state, saved)
    assert same(load_checkpoint(saved), state)
