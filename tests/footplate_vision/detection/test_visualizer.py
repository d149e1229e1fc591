from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from footplate.registry import HOOKS, VISUALIZERS
from footplate_vision.detection import DetDataSample, DetLocalVisualizer
from footplate_vision.structures import InstanceData
from tests.footplate_vision.recording import RUNNER, Recorder, batch

RED, BLUE = (255, 0, 0), (0, 0, 255)
META: dict[str, Any] = {"classes": ("cat", "dog"), "palette": [RED, BLUE]}


def instances(boxes: Any, labels: Any, **more: Any) -> InstanceData:
    return InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4).float(), labels=torch.tensor(labels).long(), **more)


def sample(**meta: Any) -> DetDataSample:
    found = DetDataSample(metainfo={"img_shape": (320, 320), "ori_shape": (320, 320), **meta})
    found.gt_instances = instances([[40, 60, 200, 300]], [0])
    found.pred_instances = instances([[50, 70, 210, 310], [20, 250, 45, 300]], [1, 0], scores=torch.tensor([0.75, 0.2]))
    return found


def visualizer(**arguments: Any) -> DetLocalVisualizer:
    made: DetLocalVisualizer = VISUALIZERS.build({"type": "DetLocalVisualizer", **arguments})
    made.dataset_meta = META
    return made


def grey(side: int = 320) -> Any:
    return np.full((side, side, 3), 90, np.uint8)


def panels(page: Any) -> list[Any]:
    """Returns the panels of 320 x 320 pixels on a page; they are below the captions, ten pixels apart."""
    top = next(row for row in range(page.shape[0]) if (page[row, 10:330] == 90).all(axis=1).sum() > 250)
    return [page[top : top + 320, left : left + 320] for left in range(10, page.shape[1] - 320, 330)]


def test_rotated_boxes_are_drawn() -> None:
    given = sample()
    given.pred_instances = InstanceData(
        bboxes=torch.tensor([[160.0, 160.0, 200.0, 60.0, torch.pi / 2]]), labels=torch.tensor([1])
    )
    prediction = panels(visualizer().render(grey(), given))[2]
    assert prediction[220, 130].tolist() == list(BLUE)
    assert (prediction[150, :120] == 90).all()  # the box is upright


def test_masks_are_drawn() -> None:
    given = sample()
    masks = torch.zeros(1, 320, 320, dtype=torch.bool)
    masks[0, 100:150, 100:150] = True
    given.gt_instances.masks = masks
    _, truth, _ = panels(visualizer(alpha=0.5).render(grey(), given))
    assert truth[120, 120].tolist() == [172, 45, 45]


def test_predictions_with_low_scores_are_not_drawn(tmp_path: Path) -> None:
    given = sample()
    pictures = []
    for threshold in (0.1, 0.5, 0.9):
        path = tmp_path / f"{threshold}.png"
        visualizer().add_datasample("a", grey(), given, out_file=str(path), pred_score_thr=threshold)
        pictures.append(panels(np.asarray(Image.open(path)))[2])
    assert pictures[0][290, 20].tolist() == list(RED)
    assert pictures[1][290, 20].tolist() == [90] * 3
    assert (pictures[1][180, 50].tolist(), pictures[2][180, 50].tolist()) == (list(BLUE), [90] * 3)
    assert len(given.pred_instances) == 2


class DetRecorder(Recorder, DetLocalVisualizer):
    """Records the threshold as well."""


def test_the_visualizer_receives_the_threshold() -> None:
    recorder = DetRecorder()
    data_batch, outputs = batch(DetDataSample)
    cfg = {"type": "DetVisualizationHook", "draw": True, "interval": 1, "score_thr": 0.4}
    HOOKS.build(cfg).after_val_iter(RUNNER, 0, data_batch, outputs)
    assert recorder.drawn[1][2]["pred_score_thr"] == 0.4


def test_the_error_is_the_number_of_wrong_boxes() -> None:
    given = DetDataSample(metainfo={"ori_shape": (50, 50), "img_shape": (100, 100)})
    true = [[0.0, 0, 20, 20], [40, 0, 60, 20], [80, 80, 99, 99]]
    found = [[0.0, 0, 10, 10], [20, 0, 30, 10], [30, 30, 40, 40], [0, 40, 9, 49]]
    given.gt_instances = InstanceData(bboxes=torch.tensor(true), labels=torch.tensor([0, 1, 1]))
    scores = torch.tensor([0.9, 0.8, 0.7, 0.2])
    given.pred_instances = InstanceData(bboxes=torch.tensor(found), labels=torch.tensor([0, 0, 1, 1]), scores=scores)
    error = HOOKS.build({"type": "DetVisualizationHook"}).error(given)
    assert error == (3, "1 undetected, 1 false, 1 of the wrong class")
