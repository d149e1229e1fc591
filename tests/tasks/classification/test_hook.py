from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.tasks.classification import ClsDataSample
from footplate.visualization import Visualizer

RUNNER: Any = SimpleNamespace(iter=30)


class Recorder(Visualizer):
    """Keeps what it is asked to draw."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.drawn: list[tuple[str, Any, dict[str, Any]]] = []

    def add_datasample(self, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        self.drawn.append((name, image, kwargs))

    def add_image(self, name: str, image: Any, step: int = 0) -> None:
        self.drawn.append((name, image, {"step": step}))


def batch(count: int = 3) -> tuple[dict[str, Any], list[ClsDataSample]]:
    """Of every picture class 1 is predicted; the first is of class 0."""
    inputs = [torch.full((1, 4, 5), 10 * number, dtype=torch.uint8) for number in range(count)]
    outputs = [ClsDataSample(metainfo={"img_path": f"made/{number:02d}.png"}) for number in range(count)]
    for number, output in enumerate(outputs):
        output.set_gt_label(min(number, 1)).set_pred_label(1)
    return {"inputs": inputs}, outputs


def hook(**arguments: Any) -> Any:
    return HOOKS.build({"type": "ClsVisualizationHook", **arguments})


@pytest.mark.parametrize(
    ("event", "arguments", "expected"),
    [
        ("after_val_iter", {"interval": 2}, ["val_00", "val_01", "val_02"] * 2),
        ("after_test_iter", {"interval": 4, "max_samples": 2}, ["test_00", "test_01"]),
        ("after_val_iter", {"interval": 4, "only_wrong": True}, ["val_00"]),
        ("after_val_iter", {"interval": 1, "draw": False}, []),
        ("after_train_iter", {"interval": 1}, []),
    ],
)
def test_every_so_many_batches_are_drawn(event: str, arguments: dict[str, Any], expected: list[str]) -> None:
    recorder, drawing = Recorder(), hook(**arguments)
    data_batch, outputs = batch()
    for batch_idx in range(4):
        getattr(drawing, event)(RUNNER, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
    assert [name for name, _, _ in recorder.drawn] == expected


def test_the_picture_on_disk_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "item.png"
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(path)
    recorder = Recorder()
    data_batch, outputs = batch()
    outputs[1].set_metainfo({"img_path": str(path)})
    hook(interval=1, show=True, wait_time=0.5).after_val_iter(RUNNER, 0, data_batch, outputs)
    assert [image.shape for _, image, _ in recorder.drawn] == [(4, 5, 3)] * 3
    assert recorder.drawn[1][1][0, 0].tolist() == [9, 8, 7]
    assert recorder.drawn[2][1][0, 0].tolist() == [20, 20, 20]
    assert recorder.drawn[0][2] == {"data_sample": outputs[0], "show": True, "wait_time": 0.5, "step": 30}


@pytest.mark.parametrize("mode", ["val", "test"])
def test_the_confusion_matrix_is_drawn(mode: str) -> None:
    recorder = Recorder()
    recorder.dataset_meta = {"classes": ("a", "b")}
    metrics = {"accuracy/top1": 50.0, "confusion_matrix/result": torch.eye(2, dtype=torch.int64)}
    getattr(hook(), f"after_{mode}_epoch")(RUNNER, metrics=metrics)
    assert [(name, kwargs) for name, _, kwargs in recorder.drawn] == [(f"{mode}_confusion_matrix", {"step": 30})]
    assert recorder.drawn[0][1].shape == (184, 248, 3)
    getattr(hook(draw=False), f"after_{mode}_epoch")(RUNNER, metrics=metrics)
    assert len(recorder.drawn) == 1


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"max_samples": 0}, {"interval": True}])
def test_intervals_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="whole number of at least 1"):
        hook(**arguments)
