from typing import Any

import pytest

from footplate.tools.plan import formulas
from footplate.tools.plan.formulas import FORMULAS, describe_formulas


@pytest.mark.parametrize(
    ("name", "arguments", "found"),
    [
        ("exchange_seconds", (100e6, 1, 1e9, 1.0), 0.0),
        ("exchange_seconds", (100e6, 2, 1e9, 0.0), 0.1),
        ("exchange_seconds", (100e6, 8, 1e9, 0.0), 2 * 7 / 8 * 0.1),
        ("exchange_seconds", (100e6, 8, 1e9, 0.0, 3), 3 * 7 / 8 * 0.1),
        ("exchange_seconds", (0, 4, 1e9, 1e-3), 6e-3),  # a ring of 4 has 6 hops, trees 8
        ("exchange_seconds", (0, 1024, 1e9, 1e-3), 40e-3),  # a ring has 2046, trees 40
        ("bucket_count", (1000,), 1),
        ("bucket_count", ((1 << 20) + 1,), 2),
        ("bucket_count", (102 << 20,), 6),
        ("exposed_seconds", (0.1, 0.0, 1), 0.1),
        ("exposed_seconds", (0.1, 1.0, 5), 0.02),
        ("exposed_seconds", (1.0, 0.5, 5), 0.6),
        ("slowest_of", (2.0, 0.1, 1), 2.0),
        ("shared_cores", (1.0, 1, 1, 4, 1.3), 1.0),
        ("shared_cores", (1.0, 2, 1, 4, 1.3), 1.1),
        ("shared_cores", (1.0, 4, 1, 4, 1.3), 1.3),
        ("shared_cores", (1.0, 8, 1, 4, 1.3), 2.6),
        ("shared_cores", (1.0, 2, 2, 2, 1.2), 2.4),
        ("shared_cores", (1.0, 2, 1, 2, 1.0, 1.5), 1.0),
        ("shared_cores", (1.0, 3, 1, 2, 1.0, 1.5), 1.875),
        ("shared_cores", (1.0, 8, 1, 2, 1.0, 1.5), 6.0),
        ("loading_seconds", (0.01, 16, 0, 1.0), 0.16),
        ("loading_seconds", (0.1, 16, 4, 0.3), 0.1),
        ("loading_seconds", (0.01, 16, 4, 0.3), 0.0),
        ("replicated_bytes", (1.0, 2.0, 4.0, 8.0), 15.0),
        ("sharded_bytes", (8.0, 8.0, 16.0, 1.0, 2.0, 4), 13.0),
        ("checkpoint_seconds", (100.0, 10.0, 5), 2.0),
        ("efficiency", (1.0, 1.25), 0.8),
    ],
)
def test_figures(name: str, arguments: tuple[Any, ...], found: float) -> None:
    assert getattr(formulas, name)(*arguments) == pytest.approx(found)


@pytest.mark.parametrize(("devices", "times"), [(2, 0.564), (4, 1.029), (64, 2.344), (1024, 3.21)])
def test_the_slowest_of_several_normals(devices: int, times: float) -> None:
    """Beside the expected maximum that tables of order statistics give."""
    assert formulas.slowest_of(1.0, 0.1, devices) == pytest.approx(1 + 0.1 * times, abs=0.005)


def test_every_formula_has_a_source_and_is_told() -> None:
    told = describe_formulas()
    for each in FORMULAS:
        assert each.__name__.replace("_", " ") in told
        assert "Source: " in (each.__doc__ or "")
    assert told.count("Source: ") == len(FORMULAS)
