from typing import Any

import pytest
import torch
from torch import Tensor

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError, DataError
from footplate.optim import build_optim_wrapper
from footplate.registry import MODELS
from footplate.tasks.detection import DetDataSample, SmallDetector
from footplate.tasks.detection.boxes import aligned_giou
from footplate.tasks.detection.small_detector import Truth, assign


def model(**arguments: Any) -> SmallDetector:
    torch.manual_seed(0)
    return SmallDetector(3, widths=(8, 12, 16), depths=(1, 1, 1), levels=2, head_width=8, **arguments).eval()


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def samples() -> list[DetDataSample]:
    first = InstanceData(bboxes=torch.tensor([[2.0, 3, 20, 30], [10, 4, 31, 19]]), labels=torch.tensor([2, 0]))
    second = InstanceData(bboxes=torch.tensor([[5.0, 5, 28, 28]]), labels=torch.tensor([1]))
    return [DetDataSample(gt_instances=each, metainfo={"img_shape": (32, 32)}) for each in (first, second)]


def test_the_losses_are_what_the_targets_say() -> None:
    detector, inputs, given = model(box_weight=3.0), pictures(), samples()
    found = detector(inputs, given, mode="loss")
    grid = detector(inputs)
    targets = assign(grid, Truth.of([each.gt_instances for each in given], grid.boxes))
    chance, wanted = grid.scores.sigmoid(), targets.scores
    classes = -(wanted * chance.log() + (1 - wanted) * (1 - chance).log()).sum()
    sure = wanted.max(dim=-1).values[targets.found]
    overlaps = aligned_giou(grid.boxes[targets.found], targets.boxes[targets.found])
    total = max(1.0, sure.sum().item())
    assert targets.found.sum() > 10
    assert found["loss_cls"].item() == pytest.approx(classes.item() / total, rel=1e-4)
    assert found["loss_bbox"].item() == pytest.approx(3 * (sure * (1 - overlaps)).sum().item() / total, rel=1e-4)
    assert found["iou"].item() == pytest.approx((sure * overlaps).sum().item() / total, rel=1e-4)
    assert not found["iou"].requires_grad


def test_a_batch_without_instances_has_losses_too() -> None:
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    found = model()(pictures(1), [DetDataSample(gt_instances=empty)], mode="loss")
    assert found["loss_bbox"].item() == 0
    assert 0 < found["loss_cls"].item() < 100


def test_losses_are_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = model()(pictures(), samples(), mode="loss")
    assert {value.dtype for value in found.values()} == {torch.float32}


def test_it_learns_what_it_is_shown() -> None:
    detector, inputs = model().train(), pictures()
    optimizer = build_optim_wrapper(detector, {"optimizer": {"type": "AdamW", "lr": 0.02}})
    for _ in range(80):
        detector.train_step({"inputs": inputs, "data_samples": samples()}, optimizer)
    detector.eval()
    for found, true in zip(detector(inputs, samples(), mode="predict"), samples(), strict=True):
        best = found.pred_instances[: len(true.gt_instances)]
        order = best.labels.argsort(descending=True)
        assert best.labels[order].tolist() == true.gt_instances.labels.tolist()
        assert aligned_giou(best.bboxes[order], true.gt_instances.bboxes).min() > 0.6


def test_mirrored_pictures_have_mirrored_predictions_with_a_flip_test() -> None:
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


def test_a_config_builds_it_with_its_preprocessor() -> None:
    preprocessor = {"type": "DetDataPreprocessor", "mean": [1.0] * 3, "std": [2.0] * 3}
    cfg = {"type": "SmallDetector", "num_classes": 3, "widths": [8, 12], "depths": [1, 1], "levels": 1}
    detector = MODELS.build({**cfg, "data_preprocessor": preprocessor, "test_cfg": {"score_thr": 0.0}}).eval()
    sample = DetDataSample(metainfo={"img_shape": (30, 17), "scale_factor": (2.0, 2.0)})
    batch: dict[str, Any] = {"inputs": [torch.zeros(3, 30, 17, dtype=torch.uint8)], "data_samples": [sample]}
    boxes = detector.val_step(batch)[0].pred_instances.bboxes
    assert boxes.min() >= 0
    assert boxes[:, [0, 2]].max() <= 8.5


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="needs the truth"):
        model()(pictures(1), None, mode="loss")
    with pytest.raises(ArgumentError, match="'tensor', 'loss' or 'predict'"):
        model()(pictures(1), mode="train")
