from typing import Any

import numpy as np
import pytest

from footplate.errors import ArgumentError
from footplate_vision.metric_helpers import check_samples, format_table
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


def test_columns_of_a_table_are_as_wide_as_their_content() -> None:
    columns = {"IoU": np.array([97.0, 5.555]), "Precision": np.array([100.0, np.nan])}
    assert format_table(["wall", "a long name"], columns).splitlines() == [
        "class           IoU  Precision",
        "wall          97.00     100.00",
        "a long name    5.55          -",
    ]
