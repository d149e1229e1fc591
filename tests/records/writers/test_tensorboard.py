import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.errors import MissingExtraError
from footplate.registry import VISBACKENDS


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_what_was_written_reads_back(tmp_path: Path) -> None:
    writer = VISBACKENDS.build({"type": "TensorboardVisBackend", "save_dir": str(tmp_path)})
    assert not list(tmp_path.iterdir())
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalar("train/loss", torch.tensor(1.5), 3)
    writer.add_scalars({"mIoU": 55.0, "name": "text", "step": 7}, step=1, file_path="ignored.json")
    writer.add_image("picture", np.full((4, 6, 3), 255, np.uint8), 2)
    writer.add_image("mask", np.zeros((4, 6), np.uint8), 2)
    writer.close()
    events = read(tmp_path)
    assert [(each.step, each.value) for each in events.Scalars("train/loss")] == [(3, 1.5)]
    assert [(each.step, each.value) for each in events.Scalars("mIoU")] == [(7, 55.0)]
    assert events.Tags()["scalars"] == ["train/loss", "mIoU"]
    assert [(each.step, each.width, each.height) for each in events.Images("picture")] == [(2, 6, 4)]
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "lr = 0.5" in text


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError) as caught:
        VISBACKENDS.build({"type": "TensorboardVisBackend"})
    assert "pip install 'footplate[tensorboard]'" in str(caught.value)


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    VISBACKENDS.build({"type": "TensorboardVisBackend", "save_dir": str(tmp_path)}).close()
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_in_the_same_folder_takes_the_place_of_what_was_behind_the_checkpoint(tmp_path: Path) -> None:
    first, second = (VISBACKENDS.build({"type": "TensorboardVisBackend", "save_dir": str(tmp_path)}) for _ in range(2))
    for step in (2, 4):
        first.add_scalar("loss", float(step), step)
    state = first.state_dict()
    for step in (6, 8):
        first.add_scalar("loss", 0.0, step)
    first.close()
    second.load_state_dict(state)
    for step in (6, 10):
        second.add_scalar("loss", float(step), step)
    second.close()
    assert [(each.step, each.value) for each in read(tmp_path).Scalars("loss")] == [(2, 2), (4, 4), (6, 6), (10, 10)]
