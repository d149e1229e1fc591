import numpy as np

from footplate.tasks.metric_helpers import format_table


def test_columns_of_a_table_are_as_wide_as_their_content() -> None:
    columns = {"IoU": np.array([97.0, 5.555]), "Precision": np.array([100.0, np.nan])}
    assert format_table(["wall", "a long name"], columns).splitlines() == [
        "class           IoU  Precision",
        "wall          97.00     100.00",
        "a long name    5.55          -",
    ]
