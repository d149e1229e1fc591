from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.tools.checkpoint_contents import read_contents
from tests.footplate.checkpoint.sharded_examples import save


class History:
    def __init__(self) -> None:
        self.values = [1.0]


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """A saved checkpoint."""
    weights = {"weight": torch.zeros(8, 4), "bias": torch.zeros(8)}
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    path = str(tmp_path / "iter_1.pth")
    save_checkpoint({"meta": {"iter": 1, "epoch": 1, "seed": 7}, "state_dict": weights, "optimizer": optimizer}, path)
    return path


def test_files_of_a_sharded_checkpoint_are_listed(tmp_path: Path, saved: str) -> None:
    folder = save(tmp_path / "a.sharded", load_checkpoint(saved), count=11)
    found = read_contents(folder)
    assert found.size == sum(each.stat().st_size for each in folder.glob("[rs]*"))


def test_unknown_classes_are_listed(tmp_path: Path) -> None:
    torch.save({"message_hub": {"log": [History()]}, "note": "first try"}, tmp_path / "a.pth")
    found = read_contents(tmp_path / "a.pth")
    assert found.opaque_names == [f"{__name__}.History"]
    assert found.digest.sha256 is None
    assert found.sections[-1].text == "'first try'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"lr": 1, "end": 2}, "lr, end"),
        ([1, {}], "2 values"),
        (History(), f"an object of class {__name__}.History"),
    ],
)
def test_entry_without_tensors_describes_its_content(tmp_path: Path, value: Any, text: str) -> None:
    torch.save({"entry": value}, tmp_path / "a.pth")
    assert [each.text for each in read_contents(tmp_path / "a.pth").sections] == [text]
