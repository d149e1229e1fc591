from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.errors import CheckpointError
from tests.checkpoint.inert import large

_REFUSED = (
    *("bytearrays", "arrays of buffers", "arrays as tensors", "one array under many keys"),
    *("expanded", "one expanded tensor under many keys", "expanded in the optimizer", "many views"),
    *("overlapping windows", "lists in lists", "tensors in lists", "many small tensors", "dicts"),
)


@pytest.mark.parametrize("form", [0, 1, 2], ids=["archive", "sealed", "before 1.6"])
def test_small_files_that_ask_for_much_memory_are_refused(tmp_path: Path, form: int) -> None:
    for name, files in large.files().items():
        if name in _REFUSED:
            (tmp_path / "a.pth").write_bytes(files[form])
            with pytest.raises(CheckpointError, match="far more memory"):
                load_checkpoint(tmp_path / "a.pth")


def test_many_small_tensors_that_are_really_there_are_read(tmp_path: Path) -> None:
    save_checkpoint({"state_dict": {f"w{i}": torch.zeros(10) for i in range(60_000)}}, tmp_path / "a.pth")
    assert len(load_checkpoint(tmp_path / "a.pth")["state_dict"]) == 60_000
