from typing import Any

import pytest
import torch
from torch import Tensor

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, DataError
from footplate.tasks.segmentation import BaseSegmentor, SegDataSample
from footplate.tasks.segmentation.segmentor import stack_truth


class Columns(BaseSegmentor):
    """Scores the class that a picture's first channel names."""

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
    found = stack_truth([padded, only_cut, as_on_disk], (2, 3), 255)
    assert found.tolist() == [[[1, 2, 255]] * 2] * 3
    with pytest.raises(DataError, match="needs the truth of every picture"):
        stack_truth([padded, sample()], (2, 3), 255)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (None, [[0, 1], [2, 2]]),
        ("horizontal", [[1, 0], [2, 2]]),
        ("vertical", [[2, 2], [0, 1]]),
        ("diagonal", [[2, 2], [1, 0]]),
    ],
)
def test_predictions_lie_as_the_picture_did(direction: str | None, expected: list[list[int]]) -> None:
    inputs = torch.tensor([[0.0, 1.0, 0.0], [2.0, 2.0, 0.0]]).expand(1, 3, 2, 3)
    given = sample(img_shape=(2, 2), flip=direction is not None, flip_direction=direction)
    (found,) = Columns(3)(inputs, [given], mode="predict")
    assert found.pred_sem_seg.data.tolist() == [expected]


def test_predictions_have_the_size_on_disk() -> None:
    inputs = torch.zeros(1, 3, 2, 2)
    (found,) = Columns(3)(inputs, [sample(img_shape=(2, 2), ori_shape=(6, 4))], mode="predict")
    assert found.seg_logits.shape == (6, 4)


def test_losses_and_modes() -> None:
    inputs = torch.tensor([[0.0, 1.0], [2.0, 2.0]]).expand(1, 3, 2, 2)
    losses = Columns(3)(inputs, [sample([[0, 1], [2, 255]])], mode="loss")
    assert losses["acc_seg"].item() == 100.0
    assert losses["loss_ce"].item() == pytest.approx(torch.tensor([1.0, 0, 0]).softmax(0)[0].log().neg().item())
    with pytest.raises(ArgumentError, match="'tensor', 'loss' or 'predict'"):
        Columns(3)(inputs, mode="predicts")
    with pytest.raises(ArgumentError, match="there are 3 classes"):
        Columns(3, class_weight=[1.0])
