import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.errors import DataError
from footplate.evaluation.running_sum import RunningSum


def made(values: list[int]) -> RunningSum[int]:
    found: RunningSum[int] = RunningSum(lambda one, other: one + other)
    found += values
    return found


@given(st.lists(st.integers(), max_size=300), st.integers(0, 20))
def test_the_last_few_can_be_left_out(values: list[int], beyond: int) -> None:
    kept = values[: max(len(values) - beyond, 0)]
    assert made(values).of_first(max(len(values) - beyond, 0)) == ([sum(kept)] if kept else [])
    assert len(made(values)) == len(values)


def test_it_stands_where_a_list_of_results_stands() -> None:
    found = made([1, 2])
    found.append(3)
    found.extend([4])
    assert (list(found), found[0], bool(found), len(found)) == ([10], 10, True, 4)
    found.clear()
    assert (list(found), bool(found), len(found)) == ([], False, 0)


def test_only_a_few_results_are_held() -> None:
    held: list[int] = []

    def added(one: list[int], other: list[int]) -> list[int]:
        held.append(1)
        return [one[0] + other[0]]

    found: RunningSum[list[int]] = RunningSum(added)
    for _ in range(1000):
        found.append([1])
    assert len(held) >= 1000 - 65
    assert found.of_first(1000) == [[1000]]


def test_many_samples_beyond_the_share_are_refused() -> None:
    with pytest.raises(DataError, match="a process has seen 200 samples, 100 are its share"):
        made([1] * 200).of_first(100)
