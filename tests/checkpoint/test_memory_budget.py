from pathlib import Path

import pytest
import torch
from torch import nn

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.checkpoint.exporting import average_weights, export_weights
from footplate.checkpoint.torch_file import read_content
from footplate.errors import CheckpointError
from tests.checkpoint import large_files as large

_REFUSED = (
    *("bytearrays", "arrays of buffers", "arrays as tensors", "one array under many keys"),
    *("expanded", "one expanded tensor under many keys", "expanded in the optimizer", "many views"),
    *("overlapping windows", "lists in lists", "tensors in lists", "many small tensors", "dicts"),
)


@pytest.mark.parametrize("form", [0, 1, 2], ids=["archive", "sealed", "before 1.6"])
def test_small_files_that_request_much_memory_are_rejected(tmp_path: Path, form: int) -> None:
    for name, files in large.files().items():
        if name in _REFUSED:
            (tmp_path / "a.pth").write_bytes(files[form])
            with pytest.raises(CheckpointError, match="far more memory"):
                load_checkpoint(tmp_path / "a.pth")


def test_many_small_stored_tensors_are_read(tmp_path: Path) -> None:
    save_checkpoint({"state_dict": {f"w{i}": torch.zeros(10) for i in range(60_000)}}, tmp_path / "a.pth")
    assert len(load_checkpoint(tmp_path / "a.pth")["state_dict"]) == 60_000


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Returns a checkpoint of a model that uses the same block 12 times."""
    block = nn.Linear(2000, 2000)
    save_checkpoint({"state_dict": nn.ModuleList([block] * 12).state_dict(), "run": {}}, tmp_path / "shared.pth")
    return tmp_path / "shared.pth"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_memory_shared_by_many_weights_counts_once(tmp_path: Path, device: str) -> None:
    torch.save({f"w{number}": weight for number, weight in enumerate([torch.ones(4_000_000)] * 12)}, tmp_path / "a.pth")
    with open(tmp_path / "a.pth", "rb") as stream:
        weights = read_content(stream, device=device).value
    assert weights["w0"].untyped_storage()._cdata == weights["w11"].untyped_storage()._cdata


def test_shared_weights_stay_shared_after_loading_and_exporting(shared: Path, tmp_path: Path) -> None:
    export_weights(shared, tmp_path / "out.pth")
    weights = load_checkpoint(tmp_path / "out.pth")
    assert weights["0.weight"].data_ptr() == weights["11.weight"].data_ptr()


def test_commands_that_copy_shared_weights_reject_too_many(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot average .* share memory"):
        average_weights([shared, shared])
    with pytest.raises(CheckpointError, match="cannot export .* share memory"):
        export_weights(shared, tmp_path / "out.safetensors")


def test_state_with_many_small_containers_is_read(tmp_path: Path) -> None:
    records = [{"loss": 0.5, "seen": [1, 2.5]} for _ in range(100_000)]
    save_checkpoint({"run": {"hooks": {"Records": records}}}, tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth")["run"]["hooks"]["Records"] == records
