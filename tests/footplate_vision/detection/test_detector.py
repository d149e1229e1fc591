from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate.errors import FootplateError
from footplate_vision.detection.detector import (
    BaseDetector,
    aligned_giou,
    nms,
    pairwise_iou,
)
from footplate_vision.structures import InstanceData

BOX = [0.0, 0, 4, 4]


class Fixed(BaseDetector):
    """Predicts the same for every image: one box twice, and one box with a lower score."""

    def outputs(self, inputs: Tensor) -> str:
        return "grid"

    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Tensor]:
        return {"loss": torch.tensor(float(sum(len(each) for each in instances)))}

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.tensor([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.2]]])
        return scores.expand(len(inputs), -1, -1), torch.tensor([[BOX, BOX, BOX]]).expand(len(inputs), -1, -1)


def test_a_config_selects_predictions() -> None:
    detector = Fixed(2, test_cfg={"score_thr": 0.1, "nms_iou_thr": None})
    (found,) = detector(torch.zeros(1, 3, 8, 8), mode="predict")
    assert found.pred_instances.scores.tolist() == pytest.approx([0.9, 0.8, 0.2])
    for test_cfg, message in (
        ({"score_threshold": 0.1}, "did you mean 'score_thr'"),
        ({"score_thr": 2}, "from 0 to 1"),
    ):
        with pytest.raises(FootplateError, match=message):
            Fixed(2, test_cfg=test_cfg)


def random_boxes(rng: np.random.Generator, count: int) -> Tensor:
    """Returns boxes of which some are empty, equal, or smaller than a pixel."""
    corners = rng.integers(0, 30, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.integers(0, 20, (count, 2))], axis=1)
    return torch.from_numpy(boxes.astype(np.float32) / 4)


def area(box: Any) -> float:
    return float(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]))


def overlap(one: Any, two: Any) -> tuple[float, float]:
    """Returns intersection and union of two boxes, computed with scalars."""
    inner = area([max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])])
    return inner, area(one) + area(two) - inner


def test_overlaps_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    boxes, others = random_boxes(rng, 30), random_boxes(rng, 30)
    ious, generalized = np.zeros((30, 30)), np.zeros((30, 30))
    for row, one in enumerate(boxes.tolist()):
        for column, two in enumerate(others.tolist()):
            inner, union = overlap(one, two)
            hull = area([min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3])])
            ious[row, column] = inner / union if union else 0
            generalized[row, column] = ious[row, column] - ((hull - union) / hull if hull else 0)
    np.testing.assert_allclose(pairwise_iou(boxes[None], others[None])[0], ious, atol=1e-6)
    np.testing.assert_allclose(aligned_giou(boxes[:, None], others[None]), generalized, atol=1e-6)


def plain_nms(boxes: list[Any], scores: list[float], threshold: float, labels: list[int]) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda each: (-scores[each], each)):
        inner = [overlap(boxes[place], boxes[other]) for other in kept if labels[other] == labels[place]]
        if all(not both or part / both <= threshold for part, both in inner):
            kept.append(place)
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_suppression_is_that_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 60)
    scores = torch.from_numpy(rng.random(60).round(1))  # one digit: many are tied
    labels = torch.from_numpy(rng.integers(3, size=60))
    for threshold in (0.0, 0.3, 0.7):
        expected = plain_nms(boxes.tolist(), scores.tolist(), threshold, labels.tolist())
        assert nms(boxes, scores, labels, threshold).tolist() == expected
