from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.engine import Hook
from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.tasks.segmentation import SegDataSample, SegVisualizationHook
from footplate.visualization import Visualizer

RUNNER: Any = SimpleNamespace(iter=30)


class Recorder(Visualizer):
    """Keeps what it is asked to draw."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.drawn: list[tuple[str, Any, dict[str, Any]]] = []

    def add_datasample(self, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        self.drawn.append((name, image, kwargs))


def batch(count: int = 3) -> tuple[dict[str, Any], list[SegDataSample]]:
    inputs = [torch.full((3, 4, 5), 10 * number, dtype=torch.uint8) for number in range(count)]
    outputs = [SegDataSample(metainfo={"img_path": f"made/{number:02d}.png"}) for number in range(count)]
    return {"inputs": inputs}, outputs


def names_drawn(hook: Hook, event: str, batches: int = 4) -> list[str]:
    recorder = Recorder()
    data_batch, outputs = batch(2)
    for batch_idx in range(batches):
        getattr(hook, event)(RUNNER, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
    return [name for name, _, _ in recorder.drawn]


@pytest.mark.parametrize(
    ("event", "arguments", "expected"),
    [
        ("after_val_iter", {"interval": 2}, ["val_00", "val_01"] * 2),
        ("after_test_iter", {"interval": 4}, ["test_00", "test_01"]),
        ("after_val_iter", {"interval": 2, "max_samples": 1}, ["val_00"] * 2),
        ("after_val_iter", {"interval": 5}, []),
        ("after_val_iter", {"interval": 1, "draw": False}, []),
        ("after_train_iter", {"interval": 1}, []),
    ],
)
def test_every_so_many_batches_are_drawn(event: str, arguments: dict[str, Any], expected: list[str]) -> None:
    hook = HOOKS.build({"type": "SegVisualizationHook", "draw": True, **arguments})
    assert names_drawn(hook, event) == expected


def test_the_visualizer_is_told_everything() -> None:
    recorder = Recorder()
    data_batch, outputs = batch(1)
    hook = SegVisualizationHook(draw=True, interval=1, show=True, wait_time=0.5)
    hook.after_val_iter(RUNNER, 0, data_batch, outputs)
    assert recorder.drawn[0][2] == {"data_sample": outputs[0], "show": True, "wait_time": 0.5, "step": 30}


def test_the_picture_on_disk_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(path)
    recorder = Recorder()
    data_batch, outputs = batch(3)
    outputs[1].set_metainfo({"img_path": str(path)})
    SegVisualizationHook(draw=True, interval=1).after_val_iter(RUNNER, 0, data_batch, outputs)
    pictures = [image for _, image, _ in recorder.drawn]
    assert [picture.shape for picture in pictures] == [(4, 5, 3)] * 3
    assert [picture[0, 0].tolist() for picture in pictures] == [[0, 0, 0], [9, 8, 7], [20, 20, 20]]


def test_the_set_of_a_picture_is_in_its_name() -> None:
    recorder = Recorder()
    runner: Any = SimpleNamespace(iter=30, val_loop=SimpleNamespace(current="night"))
    SegVisualizationHook(draw=True, interval=1).after_val_iter(runner, 0, *batch(1))
    assert recorder.drawn[0][0] == "val_night_00"


def test_without_a_path_pictures_are_numbered() -> None:
    recorder = Recorder()
    SegVisualizationHook(draw=True, interval=1).after_val_iter(
        RUNNER, 6, {"inputs": torch.zeros(1, 3, 2, 2)}, [SegDataSample()]
    )
    assert recorder.drawn[0][0] == "val_6_0"


def test_it_can_be_subclassed_as_the_documents_show() -> None:
    class Mine(SegVisualizationHook):
        def _after_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "val"
        ) -> None:
            if self.draw is False or mode == "train":
                return
            if self.every_n_inner_iters(batch_idx, self.interval):
                for output in outputs:
                    self._visualizer.add_datasample(
                        f"{mode}_{output.img_path}", None, data_sample=output, show=self.show, step=runner.iter
                    )

    assert names_drawn(Mine(draw=True, interval=3), "after_test_iter") == ["test_made/00.png", "test_made/01.png"]


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"interval": 2.0}, {"max_samples": 0}, {"interval": True}])
def test_intervals_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be a whole number of at least 1"):
        SegVisualizationHook(**arguments)
