import pytest
import torch
from torch import Tensor

from footplate.data.structures import LabelData
from footplate.errors import ArgumentError


@pytest.mark.parametrize(("label", "onehot"), [([0, 2], [1, 0, 1, 0]), ([], [0, 0, 0, 0]), ([3], [0, 0, 0, 1])])
def test_conversion_between_indices_and_onehot(label: list[int], onehot: list[int]) -> None:
    labels = torch.tensor(label, dtype=torch.int64)
    assert LabelData.label_to_onehot(labels, 4).tolist() == onehot
    assert LabelData.onehot_to_label(torch.tensor(onehot)).tolist() == label


@pytest.mark.parametrize("label", [torch.tensor([4]), torch.tensor([-1, 0])])
def test_label_out_of_range_is_refused(label: Tensor) -> None:
    with pytest.raises(ArgumentError, match="labels must be from 0 to 3"):
        LabelData.label_to_onehot(label, 4)


@pytest.mark.parametrize("onehot", [torch.tensor([0, 2]), torch.zeros(2, 2)])
def test_invalid_onehot_is_refused(onehot: Tensor) -> None:
    with pytest.raises(ArgumentError, match="zeros and ones"):
        LabelData.onehot_to_label(onehot)
