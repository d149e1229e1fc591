from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.engine.loops.evaluation_loops import MeanLosses
from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS
from footplate.weighted import LoggedValues, Weighted
from footplate_vision.segmentation import BaseSegmentor, SegDataSample, SegTTAModel, SmallSegmentor
from footplate_vision.segmentation.segmentor import stack_label_maps
from footplate_vision.structures import PixelData

pytestmark = pytest.mark.filterwarnings("default:::transformers")
SMALL = {"hidden_sizes": [8, 8, 20, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}


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
    assert losses["loss_ce"].value.item() == pytest.approx(-picked[counted].mean().item(), rel=1e-5)
    assert segmentor.train()(inputs, samples(truth), mode="loss")["loss_ce"].weight == counted.sum()
    right = (scores.argmax(1) == truth)[counted].float().mean().item()
    assert losses["acc_seg"].value.item() == pytest.approx(100 * right, rel=1e-5)


@pytest.mark.parametrize(("label", "weights"), [(255, None), (255, (0.0, 1.0, 1.0)), (0, (0.0, 1.0, 1.0))])
def test_the_loss_is_zero_if_no_pixel_counts(label: int, weights: Any) -> None:
    segmentor = model(class_weight=weights)
    loss = segmentor(pictures(), samples(torch.full((2, 16, 16), label)), mode="loss")["loss_ce"].value
    loss.backward()
    assert loss.item() == 0
    assert all(each.grad is not None and not each.grad.any() for each in segmentor.parameters())


def test_images_in_which_no_pixel_counts_are_left_out_of_the_validation_loss() -> None:
    segmentor, inputs = model(), pictures()
    truth = torch.tensor([0, 255])[:, None, None].repeat(1, 16, 16)
    expected = segmentor(inputs[:1], samples(truth[:1]), mode="loss")["loss_ce"].value.item()
    mean = MeanLosses()
    for images, labels in ((inputs, truth), (inputs[1:], truth[1:])):
        mean.add(segmentor.val_loss({"inputs": images, "data_samples": samples(labels)}), len(images))
    mean.add(LoggedValues({"loss": Weighted(torch.nan, 0)}), 1)
    mean.add(LoggedValues({"loss": Weighted(torch.tensor(torch.nan), torch.tensor(0))}), 1)
    assert mean.result() == pytest.approx({"loss": expected, "loss_ce": expected})
    unlabeled = MeanLosses()
    unlabeled.add(segmentor.val_loss({"inputs": inputs[1:], "data_samples": samples(truth[1:])}), 1)
    assert unlabeled.result() == pytest.approx({"loss": torch.nan, "loss_ce": torch.nan}, nan_ok=True)


def test_class_weights_make_a_weighted_mean_and_match_the_classes() -> None:
    truth = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(2))
    weights = torch.tensor((1.0, 0.5, 3.0))
    segmentor, inputs = model(class_weight=weights.tolist()), pictures()
    loss = segmentor(inputs, samples(truth), mode="loss")["loss_ce"].value
    assert loss.item() == pytest.approx(F.cross_entropy(segmentor(inputs), truth, weights).item())
    with pytest.raises(ArgumentError, match="class_weight") as caught:
        model(class_weight=[1.0, 2.0])
    assert caught.value.key == "class_weight"


class HalfSize(BaseSegmentor):
    """Returns scores at half the resolution of the image."""

    def score(self, inputs: Tensor) -> Tensor:
        return inputs[..., ::2, ::2]


def test_smaller_scores_are_resized_for_loss_predictions_and_export() -> None:
    segmentor, inputs = HalfSize(3), pictures()
    full = F.interpolate(inputs[..., ::2, ::2], (16, 16), mode="bilinear")
    truth = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(2))
    losses = segmentor(inputs, samples(truth), mode="loss")
    assert losses["loss_ce"].value.item() == pytest.approx(F.cross_entropy(full, truth).item())
    # Without metainfo about the original size, the size of the input applies.
    assert torch.equal(segmentor(inputs, mode="predict")[1].seg_logits.data, full[1])
    assert torch.equal(segmentor.predicted_tensors(inputs)["labels"], full.argmax(1))
    padded = SegDataSample(metainfo={"img_shape": (12, 10), "ori_shape": (12, 10)})
    assert torch.equal(segmentor(inputs[:1], [padded], mode="predict")[0].seg_logits.data, full[0, :, :12, :10])


def test_resized_scores_do_not_depend_on_the_padding() -> None:
    segmentor, inputs = HalfSize(3), pictures()
    assert torch.equal(segmentor(inputs[..., :15, :13])[..., :13, :11], segmentor(inputs)[..., :13, :11])
    sizes = {"inputs": dict.fromkeys((2, 3), torch.export.Dim.AUTO)}
    exported = torch.export.export(segmentor, (inputs,), dynamic_shapes=sizes).module()
    assert torch.equal(exported(inputs[..., :15, :13]), segmentor(inputs[..., :15, :13]))


class Columns(BaseSegmentor):
    """Gives the highest score to the class in the first channel of the image."""

    def score(self, inputs: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(inputs[:, 0].long(), self.num_classes).permute(0, 3, 1, 2).float()


def sample(labels: Any = None, **meta: Any) -> SegDataSample:
    made = SegDataSample(metainfo=meta)
    if labels is not None:
        made.gt_sem_seg = PixelData(data=torch.as_tensor(labels))
    return made


def test_truth_of_any_size_meets_the_inputs() -> None:
    padded = sample([[1, 2, 255], [1, 2, 255]], img_shape=(2, 2))
    only_cut = sample([[1, 2], [1, 2]], img_shape=(2, 2))
    as_on_disk = sample([[1] * 2 + [2] * 2] * 4, img_shape=(2, 2), ori_shape=(4, 4))
    found = stack_label_maps([padded, only_cut, as_on_disk], (2, 3), 255)
    assert found.tolist() == [[[1, 2, 255]] * 2] * 3
    with pytest.raises(DataError, match="ground truth"):
        stack_label_maps([padded, sample()], (2, 3), 255)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (None, [[0, 1], [2, 2]]),
        ("horizontal", [[1, 0], [2, 2]]),
        ("vertical", [[2, 2], [0, 1]]),
        ("diagonal", [[2, 2], [1, 0]]),
    ],
)
def test_predictions_have_the_orientation_of_the_image(direction: str | None, expected: list[list[int]]) -> None:
    inputs = torch.tensor([[0.0, 1.0, 0.0], [2.0, 2.0, 0.0]]).expand(1, 3, 2, 3)
    given = sample(img_shape=(2, 2), flip=direction is not None, flip_direction=direction)
    (found,) = Columns(3)(inputs, [given], mode="predict")
    assert found.pred_sem_seg.data.tolist() == [expected]


def build(**changes: Any) -> Any:
    return MODELS.build({"type": "SegFormer", "num_classes": 3, "config": SMALL, **changes})


def test_every_pixel_has_scores_and_learns() -> None:
    torch.manual_seed(0)
    model = build()
    assert model(torch.zeros(2, 3, 40, 56)).shape == (2, 3, 40, 56)
    sample = SegDataSample(metainfo={})
    sample.gt_sem_seg = PixelData(data=torch.arange(32 * 32).view(32, 32) // 512)
    inputs = torch.randn(1, 3, 32, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = model(inputs, [sample], mode="loss")["loss_ce"].value
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(each.requires_grad for each in model.parameters())


def view(scores: list[float], *, flip: bool) -> SegDataSample:
    sample = SegDataSample(metainfo={"flip": flip})
    sample.seg_logits = PixelData(data=torch.tensor(scores).view(-1, 1, 1))
    return sample


def test_probabilities_are_averaged_not_scores() -> None:
    surely, hardly = [0.0, 9.0, 0.0], [30.0, 0.0, 29.0]
    model = SegTTAModel(torch.nn.Identity())
    (merged,) = model.merge_preds([[view(hardly, flip=True), view(surely, flip=False)]])
    mean = (torch.tensor(surely).softmax(0) + torch.tensor(hardly).softmax(0)) / 2
    assert torch.allclose(merged.seg_logits.data.flatten(), mean)
    assert merged.pred_sem_seg.data.tolist() == [[[1]]]
    assert merged.flip is False
    with pytest.raises(ArgumentError, match="merges only segmentations"):
        model.merge_preds([[SegDataSample()]])
