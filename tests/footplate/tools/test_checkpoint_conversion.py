from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.tools.checkpoint_conversion import average_weights, export_weights


@pytest.fixture
def source(tmp_path: Path) -> Path:
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"net.w": weight.T, "net.tied": weight, "head.b": torch.ones(1)}
    averaged = {"module.w": torch.zeros(2), "steps": torch.tensor(3)}
    meta = {"epoch": 2, "iter": 40, "seed": 3, "secret": "x", "cfg": "a = 1"}
    path = tmp_path / "iter_40.pth"
    save_checkpoint({"meta": meta, "state_dict": state, "ema_state_dict": averaged, "optimizer": {"a": 1}}, path)
    return path


def test_safetensors_are_restored(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("safetensors")
    export_weights(source, tmp_path / "w.safetensors")
    found = load_checkpoint(tmp_path / "w.safetensors")
    assert {key: value.tolist() for key, value in found.items()} == {
        "net.w": [[0, 3], [1, 4], [2, 5]],
        "net.tied": [[0, 1, 2], [3, 4, 5]],
        "head.b": [1],
    }
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-3])
    with pytest.raises(CheckpointDamagedError, match="is damaged"):
        load_checkpoint(tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match="cannot save"):
        export_weights(source, tmp_path / "w.safetensors" / "below.safetensors")


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


def test_different_weights_are_rejected_and_named(tmp_path: Path) -> None:
    (path,) = _save(tmp_path, 1.0)
    save_checkpoint({"w": torch.ones(2), "other": torch.ones(1)}, tmp_path / "keys.pth")
    with pytest.raises(CheckpointError, match="and the first checkpoint differ in the names") as caught:
        average_weights([path, tmp_path / "keys.pth"])
    assert caught.value.found == ["count", "half", "other"]
    shape = {"w": torch.ones(3), "half": torch.ones(2), "count": torch.tensor(1)}
    save_checkpoint(shape, tmp_path / "shape.pth")
    with pytest.raises(CheckpointError, match="shapes or types of weights") as caught:
        average_weights([path, tmp_path / "shape.pth"])
    assert caught.value.found == ["w"]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.sparse_coo_tensor(torch.tensor([[0, 9**9]]), torch.ones(2), (10**9,), check_invariants=True),  # of 8 GB
        torch.eye(2).to_sparse(),
    ],
)
def test_sparse_tensor_is_named(tmp_path: Path, tensor: torch.Tensor) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"bias": torch.ones(1), "weight": tensor}}, path)
    with pytest.raises(CheckpointError, match="contains a sparse tensor") as caught:
        average_weights([path])
    assert (caught.value.key, caught.value.found) == ("weight", torch.sparse_coo)
    with pytest.raises(CheckpointError, match="contains a sparse tensor"):
        export_weights(path, tmp_path / "b.safetensors")
