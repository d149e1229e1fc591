"""Curves."""

import numpy as np
import pytest

from footplate.optim.schedules.base_curve import Curve
from footplate.optim.schedules.curves import (
    CosineAnnealing,
    CosineRestart,
    Cycle,
    MultiStep,
    OneCycle,
    QuadraticWarmup,
)


def walk(curve: Curve, span: int, base: float = 1.0) -> list[float]:
    """Returns the values at each position, each computed from the previous one."""
    value, values = base, []
    for position in range(span):
        value = curve(value, base, position, span)
        values.append(value)
    return values


@pytest.mark.parametrize(
    ("curve", "span", "values"),
    [
        (MultiStep([1, 3, 3], 0.5), 4, [1.0, 0.5, 0.5, 0.125]),
        (CosineAnnealing(T_max=2, eta_min_ratio=0.5), 3, [1.0, 0.75, 0.5]),
        (QuadraticWarmup(), 4, [1 / 16, 4 / 16, 9 / 16, 1.0]),
        (OneCycle(eta_max=1.0, total_steps=10, pct_start=0.5, div_factor=4.0, anneal_strategy="linear"), 1, [0.25]),
        (OneCycle(eta_max=1.0, total_steps=2, pct_start=1.0), 3, [0.04, 1.0, 1.0]),
        (OneCycle(eta_max=1.0, pct_start=1.0), 2, [0.04, 1.0]),
    ],
)
def test_values_at_each_position(curve: Curve, span: int, values: list[float]) -> None:
    assert walk(curve, span) == pytest.approx(values, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("curve", "in_iterations"),
    [
        (MultiStep([1, 3]), MultiStep([10, 30])),
        (CosineRestart([1, 2], [1, 1]), CosineRestart([10, 20], [1, 1])),
        (OneCycle(1.0, 5), OneCycle(1.0, 50)),
    ],
)
def test_settings_are_converted_to_iterations(curve: Curve, in_iterations: Curve) -> None:
    assert curve.in_iterations(10) == in_iterations


def test_three_phase_cycle_returns_to_the_first_value() -> None:
    curve = Cycle(pct_start=0.4, anneal_strategy="linear", three_phase=True)
    expected = np.interp(range(11), [0, 3.4, 6.8, 10], [1.0, 3.0, 1.0, 0.0])
    assert [curve.value_at(position, 11, (1.0, 3.0, 0.0)) for position in range(11)] == pytest.approx(expected)
    assert curve.value_at(50, 11, (1.0, 3.0, 0.0)) == 0.0
