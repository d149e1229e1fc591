from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.tasks.classification import ClsDataSample
from footplate.tasks.classification.sample import labels_of


@pytest.mark.parametrize(
    "value", [3, [3], torch.tensor(3), np.array([3]), np.int64(3), torch.tensor([3], dtype=torch.int8)]
)
def test_one_label_may_be_written_in_many_ways(value: Any) -> None:
    sample = ClsDataSample().set_gt_label(value).set_pred_label(value)
    assert sample.gt_label.tolist() == sample.pred_label.tolist() == [3]
    assert sample.gt_label.dtype == torch.int64


def test_scores_are_rows_of_floats() -> None:
    sample = ClsDataSample().set_gt_score([0, 1]).set_pred_score(np.array([0.25, 0.75]))
    assert sample.gt_score.tolist() == [0.0, 1.0]
    assert sample.pred_score.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("value", [0.5, "three", [1.5], [[1]], True, [1, "a"], None])
def test_what_is_no_label_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="a label is a whole number"):
        ClsDataSample().set_gt_label(value)


@pytest.mark.parametrize("value", [0.5, [[0.5]], "high"])
def test_what_is_no_row_of_scores_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="a row of numbers"):
        ClsDataSample().set_pred_score(value)


def test_the_truth_of_a_sample_is_checked() -> None:
    assert labels_of(ClsDataSample().set_gt_label([1, 2]), 3).tolist() == [1, 2]
    with pytest.raises(DataError, match="the truth of 'a.png' is class 3, there are 3"):
        labels_of(ClsDataSample(metainfo={"img_path": "a.png"}).set_gt_label(3), 3)
    with pytest.raises(DataError, match="'gt_label'"):
        labels_of(ClsDataSample(), None)
