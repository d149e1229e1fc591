import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from footplate.records import HistoryBuffer

NUMBERS = st.floats(-100, 100, width=32)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), NUMBERS, st.just(1)),
        st.tuples(st.just("tensor"), NUMBERS, st.just(1)),
        st.tuples(st.just("update"), NUMBERS, st.integers(1, 5)),
        st.tuples(st.just("row"), st.just(0.0), st.just(0)),
        st.tuples(st.just("read"), st.just(0.0), st.just(0)),
    ),
    max_size=40,
)
WINDOWS: tuple[Any, ...] = (1, 2, 5, 100, "row", "global", None)


class Plain:
    """Computes the same statistics from complete lists."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.row = capacity, 0
        self.values: list[float] = []
        self.counts: list[int] = []

    def chosen(self, window: Any) -> tuple[Any, Any]:
        values, counts = np.array(self.values), np.array(self.counts)
        start = {"row": self.row, "global": 0, None: 0}.get(window)
        if start is None:
            start = len(values) - min(window, self.capacity, len(values))
        return values[start:], counts[start:]

    def statistics(self, window: Any) -> list[float]:
        values, counts = self.chosen(window)
        if not len(values):
            return [math.nan] * 3
        return [values.sum() / counts.sum(), values.min(), values.max()]


def play(history: HistoryBuffer, plain: Plain, steps: list[tuple[str, float, int]]) -> None:
    for kind, value, count in steps:
        if kind == "row":
            history.start_row()
            plain.row = len(plain.values)
        elif kind == "read":
            history.mean(3)
        else:
            plain.values.append(value)
            plain.counts.append(count)
            given_value = torch.tensor(value) if kind == "tensor" else value
            if kind == "update":
                history.update(given_value, count)
            else:
                history.append(given_value)


def check(history: HistoryBuffer, plain: Plain) -> None:
    kept = min(len(plain.values), plain.capacity)
    assert len(history) == kept
    np.testing.assert_array_equal(history.data[0], plain.values[len(plain.values) - kept :])
    np.testing.assert_array_equal(history.data[1], plain.counts[len(plain.counts) - kept :])
    np.testing.assert_equal(history.current(), plain.values[-1] if plain.values else math.nan)
    for window in WINDOWS:
        found = [history.mean(window), history.min(window), history.max(window)]
        np.testing.assert_allclose(found, plain.statistics(window), rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(capacity=st.integers(1, 12), before=STEPS, after=STEPS)
def test_statistics_equal_those_of_a_list_before_and_after_resuming(capacity: int, before: Any, after: Any) -> None:
    history, plain = HistoryBuffer(max_length=capacity), Plain(capacity)
    play(history, plain, before)
    check(history, plain)
    resumed = HistoryBuffer(max_length=capacity)
    resumed.append(123.0)  # earlier values are discarded
    resumed.load_state_dict(history.state_dict())
    play(resumed, plain, after)
    check(resumed, plain)


def test_statistics_contain_a_nan() -> None:
    history = HistoryBuffer(max_length=2)
    for value in (1.0, math.nan, 5.0, 3.0):
        history.append(value)
    assert all(math.isnan(each) for each in (history.mean("global"), history.min("global"), history.max("global")))
    assert (history.min(2), history.max(2)) == (3.0, 5.0)


def test_extremes_do_not_depend_on_the_counts() -> None:
    history = HistoryBuffer([3.0, -1.0], [0, 0])
    assert (history.min(), history.max(), history.min(1)) == (-1.0, 3.0, -1.0)
    assert math.isnan(history.mean())


def test_statistics_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HistoryBuffer, "_registered", {})
    history = HistoryBuffer()
    for value in (1.0, 5.0, 3.0):
        history.append(value)
    found = [history.statistics("mean", 2), history.statistics("max", window_size=3), history.statistics("current")]
    assert found == [4.0, 5.0, 3.0]

    def spread(history: HistoryBuffer, factor: float = 1.0) -> float:
        return factor * (history.max() - history.min())

    assert HistoryBuffer.register_statistics(spread) is spread
    assert history.statistics("spread", factor=2.0) == 8.0
    with pytest.raises(KeyError, match="median"):
        history.statistics("median")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_a_resumed_history_moves_to_the_accelerator() -> None:
    history = HistoryBuffer()
    for value in (1.0, 2.0):
        history.append(value)
    history.append(torch.tensor(6.0, device="cuda"))
    assert (history.mean(), history.max(), history.current()) == (3.0, 6.0, 6.0)
