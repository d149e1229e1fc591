import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.data import RecordStore

records = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3), max_size=12)


@given(records)
def test_records_come_back_equal(several: list[Any]) -> None:
    store = RecordStore(several)
    assert len(store) == len(several)
    assert list(store) == several
    assert [store[at - len(several)] for at in range(len(several))] == several


@given(records, st.data())
def test_a_subset_holds_the_chosen_records(several: list[Any], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(several) - 1), max_size=8)) if several else []
    assert list(RecordStore(several).subset(chosen)) == [several[at] for at in chosen]


def test_a_record_is_made_anew() -> None:
    store = RecordStore([{"image": np.zeros(2)}])
    store[0]["image"][0] = 1.0
    assert store[0]["image"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("index", [2, -3])
def test_what_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(IndexError):
        RecordStore([1, 2])[index]


def own_memory_of_a_reader(store: Any, answers: Any) -> None:
    for at in range(0, len(store), 7):
        store[at]
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    answers.put(next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux to ask for shared memory")
def test_a_forked_reader_copies_nothing() -> None:
    context = multiprocessing.get_context("fork")
    several = [{"img_path": f"{at:09d}.jpg", "boxes": [float(at), 1.0]} for at in range(60_000)]
    found = []
    for store in (RecordStore(several), several):
        answers: Any = context.Queue()
        reader = context.Process(target=own_memory_of_a_reader, args=(store, answers))
        reader.start()
        found.append(answers.get(timeout=60))
        reader.join()
    assert RecordStore(several).num_bytes > 4e6
    assert found[0] < found[1] - 4_000  # kilobytes; the list is copied page by page as references are counted
