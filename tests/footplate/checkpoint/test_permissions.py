"""Checkpoints without access permission cause one clear error, and nothing is lost."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import (
    find_newest,
    load_checkpoint,
    load_weights,
    remove_checkpoint,
    save_checkpoint,
    verify,
    write_pointer,
)
from footplate.errors import CheckpointError
from tests.footplate.checkpoint.conftest import State


@pytest.fixture
def run(folder_of_nobody: Path, make_state: State) -> Path:
    """The folder of a run with two checkpoints."""
    for iteration in (1, 2):
        save_checkpoint(make_state(iteration), folder_of_nobody / f"iter_{iteration}.pth")
    write_pointer(folder_of_nobody, folder_of_nobody / "iter_2.pth")
    return folder_of_nobody


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda run, state: save_checkpoint(state, run / "iter_3.pth"), "save '.*iter_3.pth'"),
        (lambda run, state: save_checkpoint(state, run / "iter_2.pth"), "save '.*iter_2.pth'"),
        (lambda run, state: write_pointer(run, run / "iter_1.pth"), "write '.*last_checkpoint'"),
        (lambda run, state: remove_checkpoint(run / "iter_1.pth"), "remove '.*iter_1.pth'"),
    ],
)
def test_folder_without_write_permission(run: Path, make_state: State, act: Any, words: str) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    run.chmod(0o555)
    with pytest.raises(CheckpointError, match=f"cannot {words}: Permission denied"):
        act(run, make_state(3))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert find_newest(run) == os.fspath(run / "iter_2.pth")


@pytest.mark.parametrize(
    "act", [load_checkpoint, verify, lambda path: load_weights(torch.nn.Linear(4, 8), os.fspath(path))]
)
def test_file_without_read_permission_is_not_reported_as_missing_or_damaged(
    run: Path, act: Callable[[Path], Any]
) -> None:
    path = run / "iter_1.pth"
    path.chmod(0o000)
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint '.*iter_1.pth': Permission denied") as raised:
        act(path)
    assert type(raised.value) is CheckpointError


def test_newest_readable_checkpoint_is_found_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "iter_2.pth").chmod(0o000)
    assert find_newest(run) == os.fspath(run / "iter_1.pth")
    assert [each.message.partition(":")[0] for each in caplog.records] == ["Skipped"]
    assert "iter_2.pth': Permission denied" in caplog.text


def test_run_does_not_start_over_if_no_checkpoint_can_be_read(run: Path) -> None:
    for path in run.glob("*.pth"):
        path.chmod(0o000)
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint '.*iter_2.pth': Permission denied"):
        find_newest(run)


def test_unreadable_pointer_is_ignored(run: Path) -> None:
    (run / "last_checkpoint").chmod(0o000)
    assert find_newest(run) == os.fspath(run / "iter_2.pth")


@pytest.mark.timeout(60)
def test_named_pipe_is_refused_instead_of_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "iter_1.pth")
    for act in (verify, load_checkpoint):
        with pytest.raises(CheckpointError, match="iter_1.pth': it is a named pipe"):
            act(tmp_path / "iter_1.pth")
