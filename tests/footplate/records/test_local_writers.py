import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.records import LocalVisBackend, write_config
from footplate.registry import VISBACKENDS
from tests.support import json_lines


def test_scalars_are_lines_of_json(tmp_path: Path) -> None:
    writer = LocalVisBackend(str(tmp_path / "vis_data"))
    assert not (tmp_path / "vis_data").exists()
    writer.add_scalar("mIoU", np.float64(55.5), step=3)
    writer.add_scalars({"loss": torch.tensor(0.5), "lr": 0.1, "epoch": 1}, step=10, file_path="run.json")
    writer.add_scalars({"loss": 0.25, "step": 12}, step=11)
    assert json_lines(tmp_path / "vis_data/scalars.json") == [
        {"mIoU": 55.5, "step": 3},
        {"loss": 0.5, "lr": 0.1, "epoch": 1, "step": 10},
        {"loss": 0.25, "step": 12},
    ]
    assert (tmp_path / "vis_data/run.json").read_text() == '{"loss": 0.5, "lr": 0.1, "epoch": 1, "step": 10}\n'


def test_the_config_is_dumped(tmp_path: Path) -> None:
    LocalVisBackend(str(tmp_path), config_save_file="settings.py").add_config(Config({"lr": 0.1}))
    assert (tmp_path / "settings.py").read_text() == "lr = 0.1\n"


def test_object_in_a_config_is_written_as_a_placeholder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Warmup:
        pass

    write_config(Config({"hook": Warmup()}), str(tmp_path / "config.py"))
    assert (tmp_path / "config.py").read_text() == "hook = __reference__('<Warmup>')\n"
    assert caplog.messages == [
        f"The config in '{tmp_path / 'config.py'}' lacks a value: "
        "a .py config cannot represent a value of type Warmup (hook)."
    ]


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_resumed_run_replaces_events_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count(1)  # at the end of the names of event files, by which TensorBoard sorts them
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid.get", lambda: next(numbers))
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
