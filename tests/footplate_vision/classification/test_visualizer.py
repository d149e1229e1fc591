from typing import Any

import numpy as np
import pytest
import torch

from footplate.registry import HOOKS
from footplate_vision.classification import ClsDataSample, ClsVisualizer
from tests.footplate_vision.recording import RUNNER, Recorder, batch, pixels_of

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def rendered(sample: ClsDataSample | None, image: Any = None, **arguments: Any) -> Any:
    draw = {name: arguments.pop(name) for name in ("draw_gt", "draw_pred") if name in arguments}
    visualizer = ClsVisualizer(**arguments)
    visualizer.dataset_meta = {"classes": ("shoe", "bag", "coat")}
    return visualizer.render(np.full((28, 28), 9, np.uint8) if image is None else image, sample, **draw)


def test_bars_are_as_long_as_scores_and_the_truth_is_blue() -> None:
    picture = rendered(ClsDataSample().set_gt_label(1).set_pred_score([0.25, 0.75, 0.0]))
    assert pixels_of(picture, BLUE) / pixels_of(picture, ORANGE) == pytest.approx(3, rel=0.1)
    wrong = rendered(ClsDataSample().set_gt_label(2).set_pred_score([0.25, 0.75, 0.0]))
    assert pixels_of(wrong, BLUE) < 40 < pixels_of(wrong, ORANGE)


def labelled(count: int = 3) -> tuple[dict[str, Any], list[ClsDataSample]]:
    """Returns samples with the predicted class 1; the true class of the first is 0."""
    data_batch, outputs = batch(ClsDataSample, count, channels=1)
    for number, output in enumerate(outputs):
        output.set_gt_label(min(number, 1)).set_pred_score([0, 1])
    return data_batch, outputs


def hook(**arguments: Any) -> Any:
    return HOOKS.build({"type": "ClsVisualizationHook", **arguments})


@pytest.mark.parametrize(
    ("event", "arguments", "expected"),
    [
        ("after_val_iter", {"interval": 4}, ["val_00", "val_01", "val_02"]),
        ("after_val_iter", {"interval": 4, "only_wrong": True}, ["val_00"]),
        ("after_test_iter", {"interval": 4, "only_wrong": True, "max_samples": 2}, ["test_00"]),
    ],
)
def test_all_or_the_wrong_ones_are_drawn(event: str, arguments: dict[str, Any], expected: list[str]) -> None:
    recorder, drawing = Recorder(), hook(**arguments)
    data_batch, outputs = labelled()
    for batch_idx in range(4):
        getattr(drawing, event)(RUNNER, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
    assert recorder.names == expected


@pytest.mark.parametrize("mode", ["val", "test"])
def test_the_confusion_matrix_is_drawn(mode: str) -> None:
    recorder = Recorder()
    recorder.dataset_meta = {"classes": ("a", "b")}
    metrics = {"accuracy/top1": 50.0, "day/confusion_matrix/result": torch.eye(2, dtype=torch.int64)}
    getattr(hook(), f"after_{mode}_epoch")(RUNNER, metrics=metrics)
    assert [(name, kwargs) for name, _, kwargs in recorder.drawn] == [(f"{mode}_day_confusion_matrix", {"step": 30})]
    assert recorder.drawn[0][1].shape == (280, 280, 3)
    getattr(hook(draw=False), f"after_{mode}_epoch")(RUNNER, metrics=metrics)
    assert len(recorder.drawn) == 1
