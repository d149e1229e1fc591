from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import read_contents, shard, verify
from footplate.errors import CheckpointError


class History:
    def __init__(self) -> None:
        self.values = [1.0]


def test_contents_of_a_checkpoint_are_listed(saved: str) -> None:
    found = read_contents(saved)
    assert found.digest == verify(saved)
    assert found.size == Path(saved).stat().st_size
    assert found.meta == {"epoch": "1", "iter": "1", "seed": "7"}
    assert [(section.name, section.tensors, section.size) for section in found.sections] == [
        ("meta", 0, 0),
        ("state_dict", 2, 160),
        ("optimizer", 1, 4),
    ]
    assert found.weights == [("weight", (8, 4), "float32"), ("bias", (8,), "float32")]
    assert found.opaque_names == []
    assert found.files == []


def test_files_of_a_sharded_checkpoint_are_listed(tmp_path: Path, saved: str) -> None:
    folder = tmp_path / "a.sharded"
    assert shard(saved, folder, 11) == 2
    found = read_contents(folder)
    assert [each.name.partition("-")[0] for each in found.files] == [*(f"rank_{n}" for n in range(8)), "state"]
    assert [(each.size, each.shards) for each in found.files[:-1]] == [(20, 2)] * 8
    assert found.files[-1].shards == 0
    assert found.size == sum(each.size for each in found.files)
    assert [each.name for each in found.files] == sorted(each.name for each in folder.glob("[rs]*"))


def test_unknown_classes_are_listed(tmp_path: Path, make_state: Callable[[int], dict[str, Any]]) -> None:
    state = make_state(1)
    state["message_hub"] = {"log": [History()]}
    state["note"] = "first try"
    torch.save(state, tmp_path / "a.pth")
    found = read_contents(tmp_path / "a.pth")
    assert found.opaque_names == [f"{__name__}.History"]
    assert found.digest.sha256 is None
    assert found.sections[-1].text == "'first try'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"lr": 1, "end": 2}, "lr, end"),
        (dict.fromkeys("abcdefghij", 1), "a, b, c, d, e, f, g, h and 2 more"),
        ([{"begin": 0, "end": 101}, {"begin": 101}], "2, each with begin, end"),
        ([{"begin": 0}], "one with begin"),
        ([1, {}], "2 values"),
        ({}, "empty"),
        ([], "empty"),
        (None, "None"),
        (3, "3"),
        (History(), f"an object of {__name__}.History"),
        ({"w": torch.ones(1)}, ""),
    ],
)
def test_entry_without_tensors_describes_its_content(tmp_path: Path, value: Any, text: str) -> None:
    torch.save({"entry": value}, tmp_path / "a.pth")
    assert [each.text for each in read_contents(tmp_path / "a.pth").sections] == [text]


def test_file_without_weights_returns_none(tmp_path: Path) -> None:
    torch.save({"epoch": 1}, tmp_path / "a.pth")
    assert read_contents(tmp_path / "a.pth").weights == []
    with pytest.raises(CheckpointError, match="does not exist"):
        read_contents(tmp_path / "b.pth")


def test_exponentially_nested_containers_are_rejected(tmp_path: Path) -> None:
    layer: list[Any] = [torch.ones(1)]
    for _ in range(200):
        layer = [layer, layer]
    layer.append(layer)
    torch.save({"a": layer}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_contents(tmp_path / "a.pth")
