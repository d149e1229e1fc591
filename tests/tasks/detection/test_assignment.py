from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate.data.structures import InstanceData
from footplate.tasks.detection.boxes import pairwise_iou
from footplate.tasks.detection.small_detector import Grid, Truth, assign


def grid(seed: int = 0, classes: int = 3) -> Grid:
    """Four by four positions, eight pixels apart, in two pictures."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.arange(4) * 8.0 + 4
    points = torch.stack([along.repeat(4), along.repeat_interleave(4)], dim=1)
    sides = torch.rand(2, 16, 4, generator=generator) * 12 + 4
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)
    return Grid(torch.randn(2, 16, classes, generator=generator), boxes, points, torch.full((16,), 8.0))


def truth(*pictures: list[tuple[list[float], int]], like: Tensor) -> Truth:
    instances = [
        InstanceData(
            bboxes=torch.tensor([box for box, _ in each]).reshape(-1, 4),
            labels=torch.tensor([c for _, c in each]).long(),
        )
        for each in pictures
    ]
    return Truth.of(instances, like)


def plain(said: Grid, picture: int, instances: list[tuple[list[float], int]], top: int) -> dict[int, tuple[int, float]]:
    """Position to instance and how sure it should be, by loops."""
    scores, overlaps = (
        said.scores[picture].sigmoid(),
        pairwise_iou(torch.tensor([box for box, _ in instances]), said.boxes[picture]),
    )
    claims: dict[int, list[int]] = {}
    ratings = np.zeros((len(instances), len(said.points)))
    for place, (box, label) in enumerate(instances):
        for position, (x, y) in enumerate(said.points.tolist()):
            if box[0] < x < box[2] and box[1] < y < box[3]:
                ratings[place, position] = scores[position, label] ** 0.5 * overlaps[place, position] ** 6
        inside = np.flatnonzero(ratings[place])
        for position in inside[np.argsort(-ratings[place, inside])][:top]:
            claims.setdefault(int(position), []).append(place)
    owners = {at: max(several, key=lambda each: overlaps[each, at].item()) for at, several in claims.items()}
    found = {}
    for at, owner in owners.items():
        own = [other for other, place in owners.items() if place == owner]
        most = max(overlaps[owner, other].item() for other in own)
        found[at] = (owner, ratings[owner, at] / max(ratings[owner, other] for other in own) * most)
    return found


@pytest.mark.parametrize("seed", range(30))
def test_positions_are_assigned_as_by_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = grid(seed)
    pictures = []
    for _ in range(2):
        corners = rng.uniform(0, 16, (int(rng.integers(1, 5)), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(6, 18, corners.shape)], axis=1).astype(np.float32)
        pictures.append([(box.tolist(), int(rng.integers(3))) for box in boxes])
    targets = assign(said, truth(*pictures, like=said.boxes), top=3)
    for number, instances in enumerate(pictures):
        expected = plain(said, number, instances, 3)
        assert targets.found[number].nonzero().flatten().tolist() == sorted(expected)
        for position, (owner, sure) in expected.items():
            box, label = instances[owner]
            assert targets.boxes[number, position].tolist() == box
            wanted = [sure if each == label else 0.0 for each in range(3)]
            assert targets.scores[number, position].tolist() == pytest.approx(wanted, abs=1e-5)


def test_pictures_without_instances_want_nothing() -> None:
    said = grid()
    empty = assign(said, truth([], [], like=said.boxes))
    assert not empty.found.any()
    assert not empty.scores.any()
    half = assign(said, truth([], [([2.0, 2.0, 30.0, 30.0], 1)], like=said.boxes))
    assert half.found.any(dim=1).tolist() == [False, True]
    assert not half.scores[0].any()


def test_a_box_between_two_positions_has_none() -> None:
    said = grid()
    targets = assign(said, truth([([5.0, 5.0, 7.0, 7.0], 0)], [], like=said.boxes))
    assert not targets.found.any()


def test_truth_is_filled_up() -> None:
    found: Any = truth([([1.0, 1, 2, 2], 2)], [([1.0, 1, 2, 2], 0), ([3.0, 3, 4, 4], 1)], like=torch.zeros(1))
    assert found.boxes.shape == (2, 2, 4)
    assert (found.labels.tolist(), found.boxes[0, 1].tolist()) == ([[2, 0], [0, 1]], [0, 0, 0, 0])
