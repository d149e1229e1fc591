import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.errors import DataError
from footplate.evaluation.metric import RunningSum


def running_sum(values: list[int]) -> RunningSum[int]:
    results: RunningSum[int] = RunningSum(lambda one, other: one + other)
    results += values
    return results


@given(st.lists(st.integers(), max_size=300), st.integers(0, 20))
def test_last_results_can_be_left_out(values: list[int], beyond: int) -> None:
    kept = values[: max(len(values) - beyond, 0)]
    assert running_sum(values).sum_of_first(max(len(values) - beyond, 0)) == ([sum(kept)] if kept else [])
    assert len(running_sum(values)) == len(values)


def test_running_sum_behaves_like_a_list_of_one_result() -> None:
    found = running_sum([1, 2])
    found.append(3)
    found.extend([4])
    assert (list(found), found[0], bool(found), len(found)) == ([10], 10, True, 4)
    found.clear()
    assert (list(found), bool(found), len(found)) == ([], False, 0)


def test_at_most_65_results_are_stored() -> None:
    held: list[int] = []

    def added(one: list[int], other: list[int]) -> list[int]:
        held.append(1)
        return [one[0] + other[0]]

    found: RunningSum[list[int]] = RunningSum(added)
    for _ in range(1000):
        found.append([1])
    assert len(held) >= 1000 - 65
    assert found.sum_of_first(1000) == [[1000]]


def test_many_samples_beyond_the_share_of_a_rank_are_refused() -> None:
    with pytest.raises(DataError, match="a rank has seen 200 samples, but its share of the dataset is 100"):
        running_sum([1] * 200).sum_of_first(100)
