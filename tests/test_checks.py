import pytest

from footplate.checks import check_count
from footplate.errors import ArgumentError


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None])
def test_check_count_rejects_other_values(value: object) -> None:
    assert check_count("interval", 0, least=0) == 0
    with pytest.raises(ArgumentError) as caught:
        check_count("interval", value, key="hook.interval")
    assert (
        str(caught.value) == f"interval must be a whole number of at least 1\n  key hook.interval\n  found: {value!r}"
    )


def test_check_count_rejects_too_large_value() -> None:
    assert check_count("max_iters", 12, most=12) == 12
    with pytest.raises(ArgumentError, match="max_iters must be at most 1,000"):
        check_count("max_iters", 1001, most=1000)
