from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate import Runner
from footplate.data.structures import BaseDataElement
from footplate.errors import ArgumentError
from footplate.hooks import NaiveVisualizationHook
from footplate.visualization import Visualizer
from tests.support import loader, settings


class Recorder(Visualizer):
    def __init__(self) -> None:
        super().__init__("naive-recorder")
        self.drawn: list[tuple[str, Any, dict[str, Any]]] = []

    def add_datasample(self, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        self.drawn.append((name, image, kwargs))


def test_a_test_is_drawn_at_the_interval(tmp_path: Path) -> None:
    recorder, hook = Recorder(), {"type": "NaiveVisualizationHook", "interval": 2, "draw_gt": False}
    points = loader(16, shuffle=False)
    cfg = settings(tmp_path, visualizer=recorder, custom_hooks=[hook], test_dataloader=points)
    del cfg["val_dataloader"], cfg["val_cfg"], cfg["val_evaluator"]
    runner = Runner(**cfg)
    pictures = {"inputs": torch.zeros(2, 3, 4, 5)}
    for batch_idx in range(4):
        runner.call_hook("after_test_iter", batch_idx=batch_idx, data_batch=pictures, outputs=[None, None])
    assert [name for name, _, _ in recorder.drawn] == ["test_1_0", "test_1_1", "test_3_0", "test_3_1"]
    assert recorder.drawn[0][2] == {"draw_gt": False, "draw_pred": True, "step": 0}
    assert recorder.drawn[0][1].shape == (4, 5, 3)


def test_the_file_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(path)
    recorder = Recorder()
    runner: Any = SimpleNamespace(visualizer=recorder, iter=7)
    outputs = [BaseDataElement(metainfo={"img_path": str(path)})]
    NaiveVisualizationHook().after_test_iter(runner, 0, {"inputs": torch.zeros(1, 3, 4, 5)}, outputs)
    name, picture, _ = recorder.drawn[0]
    assert (name, picture[0, 0].tolist()) == ("test_scene", [9, 8, 7])


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="interval"):
        NaiveVisualizationHook(interval=0)
