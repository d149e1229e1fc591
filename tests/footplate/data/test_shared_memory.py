import gc
import multiprocessing
import os
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from footplate.data import RecordStore, SampleLoader
from footplate.data.collation import pseudo_collate
from footplate.data.shared_memory import SentBatch
from footplate.errors import DataError


def test_records_are_read_unchanged() -> None:
    several: list[Any] = [{}, {"ä": 1 << 70}, {"a": "x" * 5, "b": [1.5]}, {}]
    store = RecordStore(several)
    assert list(store) == several
    assert [store[at - 4] for at in range(4)] == several
    assert list(store.subset([2, 0, 2])) == [several[2], {}, several[2]]


def test_each_access_returns_a_copy() -> None:
    store = RecordStore([{"image": np.zeros(2)}])
    store[0]["image"][0] = 1.0
    assert store[0]["image"].tolist() == [0.0, 0.0]


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


class Unsendable(Dataset[Any]):
    """Returns a generator, which cannot be sent between processes, for the samples `where`."""

    def __init__(self, *where: int) -> None:
        self.where = where

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return {"index": index, "rest": (each for each in "ab") if index in self.where else None}


class Tensors(Dataset[Any]):
    """Samples of several tensors."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return {"picture": torch.full((3, 200, 200), index), "marks": np.arange(index)}


def test_a_sample_that_cannot_be_sent_is_reported() -> None:
    loader = SampleLoader(Unsendable(5), batch_size=4, num_workers=1, collate_fn=pseudo_collate, timeout=60)
    found = iter(loader)
    assert next(found)["index"] == [0, 1, 2, 3]
    with pytest.raises(DataError) as caught:
        next(found)
    assert caught.value.message == (
        "the batch of samples 4, 5, 6, 7 cannot be sent from a worker to the main process: TypeError: cannot pickle "
        "'generator' object"
    )
    assert caught.value.notes[0] == "Samples must be picklable if num_workers is not 0."


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


def test_full_shared_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", full)
    with pytest.raises(DataError, match="^the batch of samples 0, 1 cannot be sent from a worker.*No space left"):
        list(SampleLoader(Tensors(), batch_size=2, num_workers=1, collate_fn=pseudo_collate, timeout=60))


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


def test_a_tensor_in_two_places_is_still_shared() -> None:
    value = torch.arange(3)
    first, second = received([value, value])
    first[0] = 7
    assert second.tolist() == [7, 1, 2]


def test_arrays_are_writable() -> None:
    found = received({"marks": np.arange(3), "column": np.asfortranarray(np.eye(2))})
    found["marks"][0] = 7
    assert found["marks"].tolist() == [7, 1, 2]
    assert found["column"].flags.f_contiguous
