from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate_vision.metric_helpers import check_samples
from footplate_vision.segmentation import IoUMetric


@pytest.mark.parametrize(
    ("sample", "advice"),
    [
        (
            3,
            "Return a list of data elements or dicts in mode 'predict', or pass a metric function in Python.",
        ),
        ({"gt_sem_seg": 1}, "Return it from the model in mode 'predict'."),
        ({"pred_sem_seg": 1}, "Add LoadAnnotations to the validation or test pipeline."),
    ],
)
def test_advice_names_what_provides_the_missing_value(sample: Any, advice: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_samples(IoUMetric(), [sample], "pred_sem_seg", "gt_sem_seg")
    assert list(caught.value.notes) == [advice]
