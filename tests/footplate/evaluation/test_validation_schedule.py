from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate.evaluation.validation_schedule import checked_intervals, count_validations, validation_points


@pytest.mark.parametrize(
    ("end", "settings", "points"),
    [
        (7, {"val_interval": 3}, [3, 6, 7]),  # and at the end
        (6, {"val_begin": 5, "val_interval": 2}, [6]),
        (10, {"val_interval": 1, "dynamic_intervals": [(3, 3), (8, 2)]}, [1, 3, 6, 8, 10]),
    ],
)
def test_validation_points(end: int, settings: dict[str, Any], points: list[int]) -> None:
    assert validation_points(end, **settings) == points


def test_count_validations() -> None:
    assert [count_validations(done, 7, 5, 2) for done in range(8)] == [2, 2, 2, 2, 2, 2, 1, 0]


@pytest.mark.parametrize("intervals", [[(5, 1), (3, 1)], [(3,)], [3], [(3, 0)], [("a", 1), ("b", 2)]])
def test_invalid_dynamic_intervals_raise(intervals: list[Any]) -> None:
    with pytest.raises(ArgumentError, match="dynamic_intervals"):
        checked_intervals(1, intervals)
