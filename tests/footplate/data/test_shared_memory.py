import gc
import multiprocessing
import os
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate.data import RecordStore
from footplate.data.shared_memory import SentBatch


def test_records_are_read_unchanged() -> None:
    several: list[Any] = [{}, {"ä": 1 << 70}, {"a": "x" * 5, "b": [1.5]}, {}]
    store = RecordStore(several)
    assert list(store) == several
    assert [store[at - 4] for at in range(4)] == several
    assert list(store.subset([2, 0, 2])) == [several[2], {}, several[2]]


def own_memory_of_a_reader(store: Any, answers: Any) -> None:
    gc.disable()  # a collection would write to every object of this process, whatever the store is
    for at in range(0, len(store), 7):
        store[at]
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    answers.put(next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux to ask for shared memory")
def test_forked_workers_do_not_copy_the_records() -> None:
    context = multiprocessing.get_context("fork")
    several = [{"img_path": f"{at:09d}.jpg", "boxes": [float(at), 1.0]} for at in range(60_000)]
    found = []
    for store in (RecordStore(several), several):
        answers: Any = context.Queue()
        reader = context.Process(target=own_memory_of_a_reader, args=(store, answers))
        reader.start()
        found.append(answers.get(timeout=60))
        reader.join()
    assert RecordStore(several).arrays[0].nbytes > 4e6
    assert found[0] < found[1] - 4_000  # kilobytes; the list is copied page by page as references are counted


def received(batch: Any) -> Any:
    """Returns a batch as the main process receives it."""
    return ForkingPickler.loads(ForkingPickler.dumps(SentBatch(batch)))


@pytest.mark.parametrize(
    "value",
    [
        torch.rand(2, 30, 40, 5).to(memory_format=torch.channels_last),
        torch.rand(4, 6).t(),
        torch.arange(15_000.0)[::3],
        torch.ones(1).expand(5000),
        torch.tensor(3.5, dtype=torch.bfloat16),
        torch.empty(0, 4),
    ],
)
def test_values_and_strides_of_tensors_are_kept(value: Tensor) -> None:
    found = received([value])[0]
    assert torch.equal(found, value)
    assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride())


def test_only_the_data_of_a_view_is_sent() -> None:
    value = torch.rand(1000, 1000)[:500]
    sent = SentBatch(value)
    assert torch.equal(received(value), value)
    assert sent._memory.numel() == 2_000_000


def test_collated_tensors_are_sent_without_another_copy() -> None:
    value = torch.rand(1000, 1000).share_memory_()  # type: ignore[no-untyped-call]
    sent = SentBatch([value, torch.ones(3)])
    assert len(sent._memory) == 0
    assert torch.equal(received([value])[0], value)


def test_small_batches_need_no_shared_memory() -> None:
    value = torch.rand(100, 100)
    assert type(SentBatch(value)._memory) is bytearray
    copy = received(value)
    assert torch.equal(copy, value)
    copy += 1  # writable


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    "value", [torch.eye(3).to_sparse(), torch.ones(2, requires_grad=True), torch.tensor([1 + 2j]).conj().imag]
)
def test_unusual_tensors_are_sent(value: Tensor) -> None:
    found = received({"value": value})["value"]
    assert (found.layout, found.requires_grad) == (value.layout, value.requires_grad)
    assert torch.equal(found.to_dense(), value.to_dense())
