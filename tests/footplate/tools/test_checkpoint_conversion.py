from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.errors import ArgumentError, CheckpointDamagedError, CheckpointError
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


def test_reference_layout_has_meta_and_state_dict(tmp_path: Path, source: Path) -> None:
    export_weights(source, tmp_path / "w.pth", layout="mmengine")
    found = torch.load(tmp_path / "w.pth", weights_only=True)
    assert found["meta"] == {"epoch": 2, "iter": 40, "seed": 3, "cfg": "a = 1"}
    assert list(found["state_dict"]) == ["net.w", "net.tied", "head.b"]


def test_section_to_export_can_be_chosen(tmp_path: Path, source: Path) -> None:
    export_weights(source, tmp_path / "w.pth", section="ema_state_dict", revise_keys=[(r"^module\.", "")])
    assert list(load_checkpoint(tmp_path / "w.pth")) == ["w", "steps"]
    with pytest.raises(CheckpointError, match="has no entry 'ema'"):
        export_weights(source, tmp_path / "w.pth", section="ema")


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


@pytest.mark.parametrize(
    ("name", "layout", "problem"),
    [("w.pth", "other", "layout"), ("w.safetensors", "mmengine", "support only layout='plain'")],
)
def test_unsupported_layout_is_rejected(tmp_path: Path, source: Path, name: str, layout: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        export_weights(source, tmp_path / name, layout=layout)


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
