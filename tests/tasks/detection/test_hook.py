from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.tasks.detection import DetDataSample, DetLocalVisualizer, DetVisualizationHook
from tests.tasks.recording import RUNNER, Recorder, batch


class DetRecorder(Recorder, DetLocalVisualizer):
    """Knows what a threshold is, too."""


def test_the_visualizer_is_told_everything() -> None:
    recorder = DetRecorder()
    data_batch, outputs = batch(DetDataSample)
    cfg = {"type": "DetVisualizationHook", "draw": True, "interval": 1, "score_thr": 0.4}
    HOOKS.build({**cfg, "show": True, "wait_time": 0.5}).after_val_iter(RUNNER, 0, data_batch, outputs)
    assert recorder.names == ["val_00", "val_01"]
    assert recorder.drawn[1][2] == {
        "data_sample": outputs[1],
        "show": True,
        "wait_time": 0.5,
        "out_file": None,
        "step": 30,
        "pred_score_thr": 0.4,
    }
    assert recorder.drawn[1][1].tolist() == [[[10, 10, 10]] * 5] * 4


def test_other_visualizers_are_not_told_the_threshold() -> None:
    recorder = Recorder()
    DetVisualizationHook(draw=True, interval=1).after_val_iter(RUNNER, 0, *batch(DetDataSample))
    assert ["pred_score_thr" in more for _, _, more in recorder.drawn] == [False, False]


def test_pictures_of_a_test_may_go_into_a_folder(tmp_path: Path) -> None:
    DetLocalVisualizer("files")
    data_batch, outputs = batch(DetDataSample, 1)
    outputs[0].pred_instances = InstanceData(
        bboxes=torch.ones(1, 4), labels=torch.zeros(1).long(), scores=torch.ones(1)
    )
    runner: Any = SimpleNamespace(iter=1, log_dir=str(tmp_path))
    hook = DetVisualizationHook(draw=True, interval=1, test_out_dir="pictures")
    hook.after_test_iter(runner, 0, data_batch, outputs)
    hook.after_val_iter(runner, 0, data_batch, outputs)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")] == ["pictures/00.png"]


def test_a_threshold_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ArgumentError, match="score_thr lies between 0 and 1"):
        DetVisualizationHook(score_thr=1.2)
