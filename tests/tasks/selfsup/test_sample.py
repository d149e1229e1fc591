from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.selfsup import SelfSupDataSample


@pytest.mark.parametrize("value", [3, [3], np.int64(3), torch.tensor([3], dtype=torch.int8)])
def test_a_label_may_be_written_in_many_ways(value: Any) -> None:
    label = SelfSupDataSample().set_gt_label(value).gt_label
    assert (label.tolist(), label.dtype) == ([3], torch.int64)


@pytest.mark.parametrize("value", [0.5, [1, 2], True])
def test_what_is_no_label_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="a label is a whole number"):
        SelfSupDataSample().set_gt_label(value)
