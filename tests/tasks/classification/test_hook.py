from typing import Any

import pytest
import torch

from footplate.registry import HOOKS
from footplate.tasks.classification import ClsDataSample
from tests.tasks.recording import RUNNER, Recorder, batch


def labelled(count: int = 3) -> tuple[dict[str, Any], list[ClsDataSample]]:
    """Of every picture class 1 is predicted; the first is of class 0."""
    data_batch, outputs = batch(ClsDataSample, count, channels=1)
    for number, output in enumerate(outputs):
        output.set_gt_label(min(number, 1)).set_pred_label(1)
    return data_batch, outputs


def hook(**arguments: Any) -> Any:
    return HOOKS.build({"type": "ClsVisualizationHook", **arguments})


@pytest.mark.parametrize(
    ("event", "arguments", "expected"),
    [
        ("after_val_iter", {"interval": 2}, ["val_00", "val_01", "val_02"] * 2),
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
    metrics = {"accuracy/top1": 50.0, "confusion_matrix/result": torch.eye(2, dtype=torch.int64)}
    getattr(hook(), f"after_{mode}_epoch")(RUNNER, metrics=metrics)
    assert [(name, kwargs) for name, _, kwargs in recorder.drawn] == [(f"{mode}_confusion_matrix", {"step": 30})]
    assert recorder.drawn[0][1].shape == (184, 248, 3)
    getattr(hook(draw=False), f"after_{mode}_epoch")(RUNNER, metrics=metrics)
    assert len(recorder.drawn) == 1
