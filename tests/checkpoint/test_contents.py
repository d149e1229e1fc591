import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import read_contents, verify
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.tools.checkpoint_conversion import shard


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


def test_files_of_a_sharded_checkpoint_are_listed(tmp_path: Path, saved: str) -> None:
    folder = tmp_path / "a.sharded"
    assert shard(saved, folder, 11) == 2
    found = read_contents(folder)
    assert found.size == sum(each.stat().st_size for each in folder.glob("[rs]*"))


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
        ([1, {}], "2 values"),
        ({}, "empty"),
        ([], "empty"),
        (None, "None"),
        (3, "3"),
        (History(), f"an object of class {__name__}.History"),
        ({"w": torch.ones(1)}, ""),
    ],
)
def test_entry_without_tensors_describes_its_content(tmp_path: Path, value: Any, text: str) -> None:
    torch.save({"entry": value}, tmp_path / "a.pth")
    assert [each.text for each in read_contents(tmp_path / "a.pth").sections] == [text]


def test_work_dir_in_place_of_a_checkpoint_suggests_its_checkpoints(tmp_path: Path) -> None:
    def told() -> tuple[str, str | None]:
        with pytest.raises(CheckpointError) as caught:
            verify(tmp_path)
        return caught.value.message, caught.value.suggestion

    message = f"'{tmp_path}' is a folder, not a checkpoint"
    assert told() == (message, None)
    for at, name in enumerate(("iter_2.pth", "iter_4.pth", "notes.txt")):
        (tmp_path / name).write_bytes(b"1")
        os.utime(tmp_path / name, (at, at))
    assert told() == (message, str(tmp_path / "iter_4.pth"))


def test_safetensors_file_is_not_reported_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for read in (verify, read_contents):
        with pytest.raises(CheckpointError, match="is a safetensors file") as caught:
            read(path)
        assert not isinstance(caught.value, CheckpointDamagedError)


def test_config_file_is_not_reported_as_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.py"
    path.write_text("a = 1\n")
    for read in (verify, read_contents):
        with pytest.raises(CheckpointError, match="is a config file, not a checkpoint") as caught:
            read(path)
        assert not isinstance(caught.value, CheckpointDamagedError)
