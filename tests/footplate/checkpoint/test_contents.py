import os
from pathlib import Path

import pytest

from footplate.checkpoint import verify
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.tools.checkpoint_contents import read_contents


def test_work_dir_in_place_of_a_checkpoint_suggests_its_checkpoints(tmp_path: Path) -> None:
    def told() -> tuple[str, str | None]:
        with pytest.raises(CheckpointError) as caught:
            verify(tmp_path)
        return caught.value.message, caught.value.suggestion

    message = f"'{tmp_path}' is a folder, not a checkpoint"
    assert told() == (message, None)
    for at, name in enumerate(("best_acc_iter_2.pth", "iter_2.pth", "iter_4.pth", "notes.txt")):
        (tmp_path / name).write_bytes(b"1")
        os.utime(tmp_path / name, (at, at))
    assert told() == (message, str(tmp_path / "iter_4.pth"))
    (tmp_path / "model.safetensors").touch()
    os.utime(tmp_path / "model.safetensors", (0, 0))
    assert told()[1] == str(tmp_path / "model.safetensors")


def test_safetensors_file_is_not_reported_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for read in (verify, read_contents):
        with pytest.raises(CheckpointError, match="is a safetensors file") as caught:
            read(path)
        assert not isinstance(caught.value, CheckpointDamagedError)
