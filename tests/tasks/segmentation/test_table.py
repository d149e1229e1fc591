import numpy as np

from footplate.tasks.segmentation.table import format_table


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    columns = {"IoU": np.array([97.0, 5.555]), "Precision": np.array([100.0, np.nan])}
    assert format_table("class", ["wall", "a long name"], columns).splitlines() == [
        "class           IoU  Precision",
        "wall          97.00     100.00",
        "a long name    5.55        nan",
    ]


def test_without_labels_there_is_the_head_alone() -> None:
    assert format_table("class", [], {"IoU": np.array([])}) == "class     IoU"
