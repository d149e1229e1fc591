import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import footplate_openmmlab as openmmlab
from footplate.records import LocalVisBackend, TensorboardVisBackend


def test_a_writer_of_mmengine_may_be_extended_with_videos(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    openmmlab.install()
    force_init_env: Any = importlib.import_module("mmengine.visualization.vis_backend").force_init_env

    class LocalVideos(LocalVisBackend):
        @force_init_env  # type: ignore[untyped-decorator]
        def add_video(self, name: str, frames: Any) -> None:
            Path(self._save_dir or "", f"{name}.txt").write_text(str(len(frames)))

    class TensorboardVideos(TensorboardVisBackend):
        _tensorboard: Any

        @force_init_env  # type: ignore[untyped-decorator]
        def add_video(self, name: str, frames: Any) -> None:
            self._tensorboard.add_scalar(name, len(frames))

    folder = tmp_path / "vis_data"
    for writer in (LocalVideos(str(folder)), TensorboardVideos(str(folder))):
        writer.add_video("walk", np.zeros((2, 4, 4, 3), np.uint8))
        writer.close()
    assert (folder / "walk.txt").read_text() == "2"
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
