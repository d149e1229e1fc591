from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS
from footplate.tasks.segmentation import SegDataSample, SmallSegmentor


def model(**arguments: Any) -> SmallSegmentor:
    torch.manual_seed(0)
    made = SmallSegmentor(num_classes=3, widths=(8, 12), depths=(1, 1), **arguments)
    return made.eval()


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def samples(truth: Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=each)) for each in truth]


def test_the_loss_is_the_mean_over_pixels_that_count() -> None:
    truth = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(2))
    truth[0, :4] = 255
    segmentor, inputs = model(), pictures()
    losses = segmentor(inputs, samples(truth), mode="loss")
    scores = segmentor(inputs)
    counted = truth != 255
    picked = scores.log_softmax(1).gather(1, truth.clamp(max=2)[:, None])[:, 0]
    assert losses["loss_ce"].item() == pytest.approx(-picked[counted].mean().item(), rel=1e-5)
    right = (scores.argmax(1) == truth)[counted].float().mean().item()
    assert losses["acc_seg"].item() == pytest.approx(100 * right, rel=1e-5)


def test_classes_may_weigh_differently() -> None:
    truth = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(2))
    segmentor, inputs = model(class_weight=[0.5, 1, 2]), pictures()
    found = segmentor(inputs, samples(truth), mode="loss")["loss_ce"].item()
    expected = F.cross_entropy(segmentor(inputs), truth, torch.tensor([0.5, 1, 2])).item()
    plain = F.cross_entropy(segmentor(inputs), truth).item()
    assert found == pytest.approx(expected, rel=1e-5)
    assert abs(found - plain) > 1e-3


def test_losses_are_in_full_precision_under_autocast() -> None:
    truth = samples(torch.zeros(2, 16, 16, dtype=torch.int64))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model()(pictures(), truth, mode="loss")
    assert losses["loss_ce"].dtype == torch.float32


def test_only_ignored_pixels_have_no_accuracy() -> None:
    losses = model()(pictures(1), samples(torch.full((1, 16, 16), 255)), mode="loss")
    assert losses["acc_seg"].item() == 0


def test_predictions_fill_the_samples() -> None:
    segmentor, inputs = model(), pictures()
    given = samples(torch.zeros(2, 16, 16, dtype=torch.int64))
    found = segmentor(inputs, given, mode="predict")
    scores = segmentor(inputs)
    assert [one is two for one, two in zip(found, given, strict=True)] == [True, True]
    for sample, score in zip(found, scores, strict=True):
        assert torch.equal(sample.seg_logits.data, score)
        assert torch.equal(sample.pred_sem_seg.data, score.argmax(0, keepdim=True))
    assert len(segmentor(inputs, mode="predict")) == 2


def test_predictions_are_cut_and_resized_to_the_original() -> None:
    sample = SegDataSample(metainfo={"img_shape": (12, 10), "ori_shape": (24, 20)})
    segmentor, inputs = model(), pictures(1)
    found = segmentor(inputs, [sample], mode="predict")[0]
    expected = F.interpolate(segmentor(inputs)[:, :, :12, :10], (24, 20), mode="bilinear")[0]
    assert torch.equal(found.seg_logits.data, expected)
    assert found.pred_sem_seg.shape == (24, 20)


def test_mirrored_pictures_have_mirrored_predictions_with_a_flip_test() -> None:
    segmentor, inputs = model(flip_test=True), pictures(1)
    straight = segmentor(inputs, mode="predict")[0].seg_logits.data
    mirrored = segmentor(inputs.flip(-1), mode="predict")[0].seg_logits.data
    assert torch.allclose(straight, mirrored.flip(-1), atol=1e-6)
    assert not torch.allclose(model()(inputs)[0], straight, atol=1e-3)


def test_a_config_builds_it_with_its_preprocessor() -> None:
    preprocessor = {"type": "SegDataPreProcessor", "mean": [1.0] * 3, "std": [2.0] * 3, "size_divisor": 4}
    cfg = {"type": "SmallSegmentor", "num_classes": 3, "widths": [8, 12], "depths": [1, 1]}
    segmentor = MODELS.build({**cfg, "data_preprocessor": preprocessor}).eval()
    batch: dict[str, Any] = {"inputs": [torch.zeros(3, 7, 6, dtype=torch.uint8)], "data_samples": [SegDataSample()]}
    batch["data_samples"][0].set_metainfo({"img_shape": (7, 6)})
    assert segmentor.val_step(batch)[0].pred_sem_seg.shape == (7, 6)


@pytest.mark.parametrize("given", [None, [SegDataSample()]])
def test_a_loss_needs_the_truth(given: Any) -> None:
    with pytest.raises(DataError, match="needs the truth"):
        model()(pictures(1), given, mode="loss")


def test_another_mode_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'tensor', 'loss' or 'predict'"):
        model()(pictures(1), mode="train")


def test_weights_are_as_many_as_classes() -> None:
    with pytest.raises(ArgumentError, match="there are 3 classes"):
        model(class_weight=[1, 2])
