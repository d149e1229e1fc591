from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate.evaluation.evaluation_sets import checked_intervals, interval_at, validation_is_due, validation_points


@pytest.mark.parametrize(
    ("end", "settings", "points"),
    [
        (4, {}, [1, 2, 3, 4]),
        (7, {"val_interval": 3}, [3, 6, 7]),  # and at the end
        (7, {"val_interval": 9}, [7]),
        (6, {"val_begin": 4}, [4, 5, 6]),
        (6, {"val_begin": 5, "val_interval": 2}, [6]),
        (3, {"val_begin": 5}, []),
        (10, {"val_interval": 4, "dynamic_intervals": [(7, 1)]}, [4, 6, 7, 8, 9, 10]),
        (10, {"val_interval": 1, "dynamic_intervals": [(3, 3), (8, 2)]}, [1, 3, 6, 8, 10]),
        (0, {}, []),
    ],
)
def test_validation_points(end: int, settings: dict[str, Any], points: list[int]) -> None:
    assert validation_points(end, **settings) == points


def test_interval_applies_from_its_milestone() -> None:
    assert [interval_at(done, [0, 4, 6], [5, 2, 1]) for done in range(8)] == [5, 5, 5, 2, 2, 1, 1, 1]


def test_is_due_only_from_begin() -> None:
    assert not validation_is_due(0, 0, 0, 1)
    assert validation_is_due(3, 3, 1, 2)


@pytest.mark.parametrize(
    "intervals", [[(5, 1), (3, 1)], [(3,)], [3], [(0, 1)], [(3, 0)], [("a", 1), ("b", 2)], [(3, 1.5)]]
)
def test_invalid_dynamic_intervals_raise(intervals: list[Any]) -> None:
    with pytest.raises(ArgumentError, match="dynamic_intervals"):
        checked_intervals(intervals)


def test_interval_must_be_a_count() -> None:
    with pytest.raises(ArgumentError, match="val_interval"):
        validation_points(4, val_interval=0)
