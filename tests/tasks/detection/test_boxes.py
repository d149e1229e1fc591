from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate.tasks.detection.boxes import (
    aligned_giou,
    box_areas,
    clip_boxes,
    from_centers,
    nms,
    pairwise_iou,
    to_centers,
)


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


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, others = random_boxes(rng, 11), random_boxes(rng, 7)
    expected = np.zeros((11, 7))
    for row, one in enumerate(boxes.tolist()):
        for column, two in enumerate(others.tolist()):
            inner, union = overlap(one, two)
            expected[row, column] = inner / union if union else 0
    np.testing.assert_allclose(pairwise_iou(boxes, others), expected, atol=1e-6)
    np.testing.assert_allclose(pairwise_iou(boxes[None], others[None])[0], expected, atol=1e-6)
    np.testing.assert_allclose(box_areas(boxes), [area(each) for each in boxes.tolist()])


@pytest.mark.parametrize("seed", range(20))
def test_generalized_overlaps_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, others = random_boxes(rng, 50), random_boxes(rng, 50)
    expected = []
    for one, two in zip(boxes.tolist(), others.tolist(), strict=True):
        inner, union = overlap(one, two)
        hull = area([min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3])])
        expected.append((inner / union if union else 0) - ((hull - union) / hull if hull else 0))
    np.testing.assert_allclose(aligned_giou(boxes, others), expected, atol=1e-6)


def plain_nms(boxes: list[Any], scores: list[float], threshold: float, labels: list[int]) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda each: (-scores[each], each)):
        inner = [overlap(boxes[place], boxes[other]) for other in kept if labels[other] == labels[place]]
        if all(not both or part / both <= threshold for part, both in inner):
            kept.append(place)
    return kept


@pytest.mark.parametrize("seed", range(40))
def test_suppression_is_that_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 60)
    scores = torch.from_numpy(rng.random(60).round(1))  # one digit: many are tied
    labels = torch.from_numpy(rng.integers(3, size=60))
    for threshold in (0.0, 0.3, 0.7):
        one_class = [0] * 60
        assert nms(boxes, scores, threshold).tolist() == plain_nms(
            boxes.tolist(), scores.tolist(), threshold, one_class
        )
        assert nms(boxes, scores, threshold, labels=labels).tolist() == plain_nms(
            boxes.tolist(), scores.tolist(), threshold, labels.tolist()
        )


def test_suppression_of_no_boxes_returns_no_boxes() -> None:
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_centers_and_corners() -> None:
    boxes = torch.tensor([[1.0, 2.0, 5.0, 10.0]])
    assert to_centers(boxes).tolist() == [[3, 6, 4, 8]]
    assert torch.equal(from_centers(to_centers(boxes)), boxes)


def test_boxes_are_cut_to_the_image() -> None:
    assert clip_boxes(torch.tensor([[-1.0, 3, 12, 9]]), (8, 10)).tolist() == [[0, 3, 10, 8]]
