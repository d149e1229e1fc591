from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.structures import InstanceData
from footplate.tasks.detection import DetDataSample, DetLocalVisualizer, DetVisualizationHook
from footplate.visualization import Visualizer

RUNNER: Any = SimpleNamespace(iter=30, log_dir="/nowhere")


class Recorder(DetLocalVisualizer):
    """Keeps what it is asked to draw."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.drawn: list[tuple[str, Any, dict[str, Any]]] = []

    def add_datasample(self, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        self.drawn.append((name, image, kwargs))


def batch(count: int = 2) -> tuple[dict[str, Any], list[DetDataSample]]:
    inputs = [torch.full((3, 4, 5), 10 * number, dtype=torch.uint8) for number in range(count)]
    return {"inputs": inputs}, [DetDataSample(metainfo={"img_path": f"made/{each:02d}.png"}) for each in range(count)]


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
    hook = HOOKS.build({"type": "DetVisualizationHook", "draw": True, **arguments})
    recorder = Recorder()
    data_batch, outputs = batch()
    for batch_idx in range(4):
        getattr(hook, event)(RUNNER, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
    assert [name for name, _, _ in recorder.drawn] == expected


def test_the_visualizer_is_told_everything() -> None:
    recorder = Recorder()
    data_batch, outputs = batch()
    hook = DetVisualizationHook(draw=True, interval=1, score_thr=0.4, show=True, wait_time=0.5)
    hook.after_val_iter(RUNNER, 0, data_batch, outputs)
    assert recorder.drawn[1][2] == {
        "data_sample": outputs[1],
        "show": True,
        "wait_time": 0.5,
        "out_file": None,
        "step": 30,
        "pred_score_thr": 0.4,
    }
    assert recorder.drawn[1][1].tolist() == [[[10, 10, 10]] * 5] * 4


def test_pictures_of_a_test_may_go_into_a_folder(tmp_path: Path) -> None:
    DetLocalVisualizer("files")
    data_batch, outputs = batch(1)
    outputs[0].pred_instances = InstanceData(
        bboxes=torch.ones(1, 4), labels=torch.zeros(1).long(), scores=torch.ones(1)
    )
    runner: Any = SimpleNamespace(iter=1, log_dir=str(tmp_path))
    hook = DetVisualizationHook(draw=True, interval=1, test_out_dir="pictures")
    hook.after_test_iter(runner, 0, data_batch, outputs)
    hook.after_val_iter(runner, 0, data_batch, outputs)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")] == ["pictures/00.png"]


def test_other_visualizers_are_not_told_the_threshold() -> None:
    Visualizer("plain")
    data_batch, outputs = batch()
    DetVisualizationHook(draw=True, interval=1).after_val_iter(RUNNER, 0, data_batch, outputs)


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"interval": 2.0}, {"max_samples": 0}])
def test_numbers_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="whole number"):
        DetVisualizationHook(**arguments)


def test_a_threshold_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ArgumentError, match="score_thr lies between 0 and 1"):
        DetVisualizationHook(score_thr=1.2)
