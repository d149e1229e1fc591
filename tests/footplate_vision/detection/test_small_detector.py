from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate.optim import build_optim_wrapper
from footplate_vision.detection import DetDataSample, SmallDetector, small_detector
from footplate_vision.detection.detector import aligned_giou, pairwise_iou
from footplate_vision.detection.small_detector import Grid, PyramidDetector, Targets, assign
from footplate_vision.structures import InstanceData


def model(**arguments: Any) -> SmallDetector:
    torch.manual_seed(0)
    return SmallDetector(3, widths=(8, 12, 16), depths=(1, 1, 1), levels=2, head_width=8, **arguments).eval()


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def samples() -> list[DetDataSample]:
    first = InstanceData(bboxes=torch.tensor([[2.0, 3, 20, 30], [10, 4, 31, 19]]), labels=torch.tensor([2, 0]))
    second = InstanceData(bboxes=torch.tensor([[5.0, 5, 28, 28]]), labels=torch.tensor([1]))
    return [DetDataSample(gt_instances=each, metainfo={"img_shape": (32, 32)}) for each in (first, second)]


def is_assigned(targets: Targets) -> Tensor:
    return targets.scores.amax(dim=-1) > 0


def test_the_losses_follow_from_the_targets() -> None:
    detector, inputs, given = model(), pictures(), samples()
    found = detector(inputs, given, mode="loss")
    grid = detector(inputs)
    targets = assign(grid, [each.gt_instances for each in given])
    chance, wanted = grid.scores.sigmoid(), targets.scores
    classes = -(wanted * chance.log() + (1 - wanted) * (1 - chance).log()).sum()
    sure = wanted.max(dim=-1).values[is_assigned(targets)]
    overlaps = aligned_giou(grid.boxes[is_assigned(targets)], targets.boxes[is_assigned(targets)])
    total = max(1.0, sure.sum().item())
    assert is_assigned(targets).sum() > 10
    assert found["loss_cls"].value.item() == pytest.approx(classes.item() / total, rel=1e-4)
    assert found["loss_bbox"].value.item() == pytest.approx(2 * (sure * (1 - overlaps)).sum().item() / total, rel=1e-4)
    assert found["iou"].value.item() == pytest.approx((sure * overlaps).mean().item() / sure.mean().item(), rel=1e-4)
    assert not found["iou"].value.requires_grad
    assert [each.weight for each in found.values()] == pytest.approx([total, total, sure.sum().item()])


def test_a_batch_without_instances_has_losses_too() -> None:
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    found = model()(pictures(1), [DetDataSample(gt_instances=empty)], mode="loss")
    assert found["loss_bbox"].value.item() == 0
    assert 0 < found["loss_cls"].value.item() < 100


def test_losses_are_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = model()(pictures(), samples(), mode="loss")
    assert {each.value.dtype for each in found.values()} == {torch.float32}


def test_training_reduces_the_loss() -> None:
    detector, inputs = model().train(), pictures()
    optimizer = build_optim_wrapper(detector, {"optimizer": {"type": "AdamW", "lr": 0.02}})
    for _ in range(60):
        detector.train_step({"inputs": inputs, "data_samples": samples()}, optimizer)
    detector.eval()
    for found, true in zip(detector(inputs, samples(), mode="predict"), samples(), strict=True):
        best = found.pred_instances[: len(true.gt_instances)]
        order = best.labels.argsort(descending=True)
        assert best.labels[order].tolist() == true.gt_instances.labels.tolist()
        assert aligned_giou(best.bboxes[order], true.gt_instances.bboxes).min() > 0.6


def test_mirrored_images_have_mirrored_predictions_with_a_flip_test() -> None:
    detector, inputs = model(flip_test=True, test_cfg={"score_thr": 0.0}), pictures(1)[..., :27]
    straight = detector(inputs, mode="predict")[0].pred_instances
    padded = torch.nn.functional.pad(inputs, (0, 5))
    mirrored = detector(padded.flip(-1), mode="predict")[0].pred_instances
    assert len(straight) == len(mirrored) == 100
    assert torch.allclose(straight.scores, mirrored.scores, atol=1e-6)
    x1, y1, x2, y2 = mirrored.bboxes[0].tolist()
    assert straight.bboxes[0].tolist() == pytest.approx([32 - x2, y1, 32 - x1, y2], abs=1e-4)
    once = model(test_cfg={"score_thr": 0.0})(inputs, mode="predict")[0].pred_instances
    assert not torch.allclose(once.scores, straight.scores, atol=1e-6)


def network(levels: int = 2) -> PyramidDetector:
    torch.manual_seed(0)
    return PyramidDetector(3, widths=(8, 8, 12), depths=(1, 1, 1), levels=levels, head_width=8).eval()


def test_every_position_of_every_level_has_a_prediction() -> None:
    grid = network()(torch.zeros(2, 3, 16, 24))
    assert (grid.scores.shape, grid.boxes.shape) == ((2, 6 + 24, 3), (2, 30, 4))
    assert grid.points[:7].tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [2, 2]]
    assert grid.points[-1].tolist() == [22, 14]


def grid(seed: int = 0, classes: int = 3) -> Grid:
    """Returns 4 x 4 positions, eight pixels apart, in two images."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.arange(4) * 8.0 + 4
    points = torch.stack([along.repeat(4), along.repeat_interleave(4)], dim=1)
    sides = torch.rand(2, 16, 4, generator=generator) * 12 + 4
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)
    return Grid(torch.randn(2, 16, classes, generator=generator), boxes, points)


def truth(*pictures: list[tuple[list[float], int]]) -> list[InstanceData]:
    return [
        InstanceData(
            bboxes=torch.tensor([box for box, _ in each]).reshape(-1, 4),
            labels=torch.tensor([c for _, c in each]).long(),
        )
        for each in pictures
    ]


def plain(said: Grid, picture: int, instances: list[tuple[list[float], int]], top: int) -> dict[int, tuple[int, float]]:
    """Maps positions to their instance and target score, computed by loops."""
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


@pytest.mark.parametrize("seed", range(6))
def test_positions_are_assigned_as_by_a_plain_loop(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(small_detector, "_MAX_POSITIONS", 3)
    rng = np.random.default_rng(seed)
    said = grid(seed)
    pictures = []
    for _ in range(2):
        corners = rng.uniform(0, 16, (int(rng.integers(1, 5)), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(6, 18, corners.shape)], axis=1).astype(np.float32)
        pictures.append([(box.tolist(), int(rng.integers(3))) for box in boxes])
    targets = assign(said, truth(*pictures))
    for number, instances in enumerate(pictures):
        expected = plain(said, number, instances, 3)
        assert is_assigned(targets)[number].nonzero().flatten().tolist() == sorted(expected)
        for position, (owner, sure) in expected.items():
            box, label = instances[owner]
            assert targets.boxes[number, position].tolist() == box
            wanted = [sure if each == label else 0.0 for each in range(3)]
            assert targets.scores[number, position].tolist() == pytest.approx(wanted, abs=1e-5)
