from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.tools.checkpoint_contents import read_contents


class History:
    def __init__(self) -> None:
        self.values = [1.0]


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
