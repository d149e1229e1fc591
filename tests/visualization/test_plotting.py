import numpy as np
import pytest

from footplate.visualization.plotting import Curve, Panel, _spread, plot, round_ticks


@pytest.mark.parametrize(
    ("bounds", "most", "expected"),
    [
        ((0, 100), 5, [0, 20, 40, 60, 80, 100]),
        ((0.001, 0.0035), 3, [0.001, 0.002, 0.003]),
        ((-1.2, 1.2), 5, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_numbers_within_the_bounds(
    bounds: tuple[float, float], most: int, expected: list[float]
) -> None:
    assert round_ticks(bounds, most) == pytest.approx(expected)


def test_labels_are_moved_apart_and_stay_inside() -> None:
    spots = _spread([(10, 0), (11, 1), (98, 2), (99, 3)], gap=15, low=0, high=100)
    assert spots == [(10, 0), (25, 1), (85, 2), (100, 3)]


@pytest.mark.parametrize(
    "points",
    [
        [(5, 1.0)],
        [(0, 2.0), (9, 2.0)],
        [(0, 0.0), (1, 0.0)],
        [(0, -1e308), (5, 0.0), (9, 1e308)],
        [(0, -1.7976931348623157e308), (9, 1.7976931348623157e308)],
        [(0, 0.0), (9, 5e-324)],
        [(0, 1.0), (9, 1.0000000000000002)],
        [(-1e308, 1.0), (1e308, 2.0)],
    ],
)
def test_curves_without_extent_are_drawn(points: list[tuple[float, float]]) -> None:
    picture = plot([Panel("loss", [Curve("loss", points)])], "step")
    away = np.abs(np.asarray(picture).astype(int) - (0, 114, 178)).sum(axis=2)
    assert (away < 8).sum() > 5
