import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import Inert, export_weights, load_checkpoint, read_contents, trusted_files, trusting


class Opener:
    """Creates a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


def written(path: Path) -> str:
    """Writes a checkpoint that creates the folder `path`.d when unpickled; returns its name."""
    torch.save({"state_dict": {"w": torch.ones(2)}, "meta": {"iter": 3}, "own": Opener(path.with_suffix(".d"))}, path)
    return str(path)


def record_of(path: str) -> dict[str, str]:
    return {"path": path, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}


def test_the_file_that_is_trusted_is_executed_and_no_other(tmp_path: Path) -> None:
    chosen, other = written(tmp_path / "a.pth"), written(tmp_path / "b.pth")
    with trusting(os.path.relpath(chosen)):
        load_checkpoint(chosen)
        assert isinstance(load_checkpoint(other)["own"], Inert)
        assert trusted_files() == [record_of(chosen)]
    assert (tmp_path / "a.d").exists()
    assert not (tmp_path / "b.d").exists()
    assert trusted_files() == []
    assert isinstance(load_checkpoint(chosen)["own"], Inert)  # after the block nothing is trusted


def test_nothing_is_trusted_without_a_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth")
    with trusting(None):
        assert isinstance(load_checkpoint(path)["own"], Inert)


def test_trust_that_nobody_needed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), trusting(tmp_path / "nope.pth"):
        pass
    assert caplog.messages == [f"'{tmp_path / 'nope.pth'}' was to be trusted, and nothing has read it"]


def test_it_is_recorded_in_what_comes_of_it(tmp_path: Path) -> None:
    path, second, third = written(tmp_path / "a.pth"), tmp_path / "second.pth", tmp_path / "third.pth"
    with trusting(path):
        assert export_weights(path, second, layout="mmengine") == 1
    export_weights(second, third, layout="mmengine")
    assert load_checkpoint(third)["meta"] == {"iter": 3, "trusted": [record_of(path)]}
    assert read_contents(third).meta == {"iter": "3", "trusted": path}


@pytest.mark.parametrize("told", [{"trusted": 1}, {"trusted": [1]}, {}, None])
def test_what_is_no_record_is_passed_over(tmp_path: Path, told: Any) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "meta": told}, tmp_path / "a.pth")
    assert "trusted" not in read_contents(tmp_path / "a.pth").meta
