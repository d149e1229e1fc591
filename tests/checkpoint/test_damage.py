"""Any damage to the bytes of a checkpoint is detected."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint, verify
from footplate.errors import CheckpointDamagedError, CheckpointError

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


def _check_flips(whole: bytes, damaged: Callable[[bytes], str], seed: int, count: int) -> None:
    for bit in random.Random(seed).sample(range(len(whole) * 8), count):
        _assert_found(damaged(_flip(whole, bit)))


def _check_cuts(whole: bytes, damaged: Callable[[bytes], str], seed: int, count: int) -> None:
    for length in random.Random(seed).sample(range(len(whole)), count):
        _assert_found(damaged(whole[:length]))


def _check_zeroed(whole: bytes, damaged: Callable[[bytes], str], starts: Any) -> None:
    for start in starts:
        zeroed = whole[:start] + bytes(min(_PAGE, len(whole) - start)) + whole[start + _PAGE :]
        if zeroed != whole:
            _assert_found(damaged(zeroed))


def test_flipped_bits_are_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    _check_flips(whole, damaged, seed=1, count=300)


def test_every_flipped_bit_near_the_end_is_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    for bit in range((len(whole) - 145) * 8, len(whole) * 8):
        _assert_found(damaged(_flip(whole, bit)))


def test_truncations_are_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    _check_cuts(whole, damaged, seed=2, count=200)
    for missing in range(1, 200):
        _assert_found(damaged(whole[:-missing]))


def test_zeroed_pages_are_detected(whole: bytes, damaged: Callable[[bytes], str]) -> None:
    _check_zeroed(whole, damaged, range(0, len(whole), 40))


@pytest.mark.slow
def test_extensive_damage_is_detected(
    tmp_path: Path, make_state: Callable[..., dict[str, Any]], damaged: Callable[[bytes], str]
) -> None:
    save_checkpoint(make_state(1, width=500), tmp_path / "large.pth")
    whole = (tmp_path / "large.pth").read_bytes()
    _check_flips(whole, damaged, seed=3, count=10_000)
    _check_cuts(whole, damaged, seed=4, count=1_000)
    generator = random.Random(5)
    _check_zeroed(whole, damaged, [generator.randrange(len(whole)) for _ in range(1_000)])


@pytest.mark.parametrize("extra", [b"\0", b"more", bytes(5000)])
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
    make_state: Callable[[int], dict[str, Any]],
    same: Callable[..., bool],
    damaged: Callable[[bytes], str],
) -> None:
    torch.save(make_state(1), tmp_path / "theirs.pth")
    theirs = (tmp_path / "theirs.pth").read_bytes()
    assert verify(tmp_path / "theirs.pth").sha256 is None
    for bit in random.Random(6).sample(range(len(theirs) * 8), 300):
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
