from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import average_weights, save_checkpoint
from footplate.errors import ArgumentError, CheckpointError


def _save(folder: Path, *values: float) -> list[Path]:
    paths = []
    for number, value in enumerate(values):
        state = {
            "w": torch.full((2,), value),
            "half": torch.full((2,), value, dtype=torch.bfloat16),
            "count": torch.tensor(number),
        }
        paths.append(folder / f"{number}.pth")
        save_checkpoint({"state_dict": state}, paths[-1])
    return paths


@pytest.mark.parametrize(("shares", "expected"), [(None, 3.0), ([1, 1, 2], 3.75), ([0, 0, 0.1], 6.0)])
def test_weights_are_averaged_and_counters_taken_from_the_last(
    tmp_path: Path, shares: Sequence[float] | None, expected: float
) -> None:
    found = average_weights(_save(tmp_path, 1.0, 2.0, 6.0), shares)
    assert found["w"].tolist() == [expected, expected]
    assert found["w"].dtype == torch.float32
    assert found["half"].dtype == torch.bfloat16
    assert found["count"].item() == 2
    assert list(found) == ["w", "half", "count"]


def test_sums_do_not_lose_small_parts(tmp_path: Path) -> None:
    found = average_weights(_save(tmp_path, 1e8, 1.0, -1e8))
    assert found["w"][0].item() == pytest.approx(1 / 3, rel=1e-6)


def test_one_checkpoint_is_its_own_average(tmp_path: Path) -> None:
    assert average_weights(_save(tmp_path, 0.1))["w"].tolist() == torch.full((2,), 0.1).tolist()


@pytest.mark.parametrize(("count", "shares"), [(0, None), (2, [1.0]), (2, [1.0, -1.0])])
def test_shares_must_make_sense(tmp_path: Path, count: int, shares: Sequence[float] | None) -> None:
    with pytest.raises(ArgumentError, match="a share of each"):
        average_weights(_save(tmp_path, *[1.0] * count), shares)


def test_other_weights_are_refused_and_named(tmp_path: Path) -> None:
    (path,) = _save(tmp_path, 1.0)
    save_checkpoint({"w": torch.ones(2), "other": torch.ones(1)}, tmp_path / "keys.pth")
    with pytest.raises(CheckpointError, match="holds other weights") as caught:
        average_weights([path, tmp_path / "keys.pth"])
    assert caught.value.found == ["count", "half", "other"]
    shape = {"w": torch.ones(3), "half": torch.ones(2), "count": torch.tensor(1)}
    save_checkpoint(shape, tmp_path / "shape.pth")
    with pytest.raises(CheckpointError, match="another shape") as caught:
        average_weights([path, tmp_path / "shape.pth"])
    assert caught.value.key == "w"
