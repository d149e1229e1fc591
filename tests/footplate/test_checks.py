import numpy as np
import pytest

from footplate.checks import check_count, check_fraction
from footplate.errors import ArgumentError


@pytest.mark.parametrize("value", [0, 2.0, True, "2"])
def test_check_count_rejects_other_values(value: object) -> None:
    assert check_count("interval", 0, least=0) == 0
    with pytest.raises(ArgumentError) as caught:
        check_count("interval", value, key="hook.interval")
    assert str(caught.value) == f"interval must be an integer >= 1\n  key hook.interval\n  found: {value!r}"


def test_numpy_numbers_become_plain_numbers() -> None:
    numbers = check_count("interval", np.int64(3)), check_fraction("prob", np.float32(0.5)), check_fraction("prob", 1)
    assert numbers == (3, 0.5, 1.0)
    assert [type(number) for number in numbers] == [int, float, float]
    with pytest.raises(ArgumentError, match="an integer >= 1"):
        check_count("interval", np.float64(3))
