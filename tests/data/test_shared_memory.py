import copy
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils.data import DataLoader, Dataset

from footplate.data import RecordStore, SampleLoader, shared_memory, workers
from footplate.data.batches import pseudo_collate
from footplate.data.shared_memory import Block, BlockPool, PackedBatch, SharedIndices, _release, allocate_block
from footplate.errors import DataError

records = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3), max_size=12)


@given(records)
def test_records_are_read_unchanged(several: list[Any]) -> None:
    store = RecordStore(several)
    assert len(store) == len(several)
    assert list(store) == several
    assert [store[at - len(several)] for at in range(len(several))] == several


@given(records, st.data())
def test_a_subset_contains_the_selected_records(several: list[Any], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(several) - 1), max_size=8)) if several else []
    assert list(RecordStore(several).subset(chosen)) == [several[at] for at in chosen]


def test_each_access_returns_a_copy() -> None:
    store = RecordStore([{"image": np.zeros(2)}])
    store[0]["image"][0] = 1.0
    assert store[0]["image"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("index", [2, -3])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError):
        RecordStore([1, 2])[index]


def own_memory_of_a_reader(store: Any, answers: Any) -> None:
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
    assert RecordStore(several).num_bytes > 4e6
    assert found[0] < found[1] - 4_000  # kilobytes; the list is copied page by page as references are counted


class Counting(Dataset[int]):
    def __init__(self) -> None:
        self.indices = SharedIndices()

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return self.indices.add(index // 2) * 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_share_a_set_of_indices(method: str) -> None:
    dataset = Counting()
    for _ in range(2):
        for _ in DataLoader(dataset, num_workers=2, multiprocessing_context=method):
            pass
    assert len(dataset.indices) == 4


def test_a_copy_of_a_set_of_indices_is_independent() -> None:
    indices = SharedIndices()
    assert indices.add(5) == indices.add(5) == 1
    for other in (copy.deepcopy(indices), pickle.loads(pickle.dumps(indices))):
        assert (other.add(5), other.add(-1)) == (1, 2)
    assert len(indices) == 1


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
        return {"picture": torch.full((3, 40, 40), index), "marks": np.arange(index)}


def first_of_each(samples: list[Any]) -> Iterator[Any]:
    return (sample["index"] for sample in samples)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sample_that_cannot_be_sent_is_reported(workers: int) -> None:
    loader = SampleLoader(Unsendable(5), batch_size=4, num_workers=workers, collate_fn=pseudo_collate, timeout=60)
    found = iter(loader)
    assert next(found)["index"] == [0, 1, 2, 3]
    with pytest.raises(DataError) as caught:
        next(found)
    assert caught.value.message == (
        "sample 5 cannot be sent from a worker to the main process: TypeError: cannot pickle 'generator' object"
    )
    assert caught.value.notes == (
        "Return samples that can be pickled, or set num_workers=0 to read in the main process.",
    )


def test_the_batch_is_reported_if_the_sample_is_unknown() -> None:
    loader = SampleLoader(Unsendable(), batch_size=4, num_workers=1, collate_fn=first_of_each, timeout=60)
    with pytest.raises(DataError, match="^the batch of samples 0, 1, 2, 3 cannot be sent from a worker"):
        list(loader)


def test_unpicklable_samples_can_be_read_in_the_main_process() -> None:
    assert len(list(SampleLoader(Unsendable(5), batch_size=4, collate_fn=pseudo_collate))) == 3


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6).reshape(2, 3),
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.rand(4, 6).t(),
        torch.tensor(3.5, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.tensor([2j]).conj(),
        torch.tensor([1 + 2j]).conj().imag,
        torch.empty(0, 4),
        torch.empty(3, 0, dtype=torch.int16),
    ],
)
def test_values_and_strides_of_tensors_are_kept(value: Tensor) -> None:
    found = PackedBatch.pack([value]).unpack({})[0]
    assert torch.equal(found, value)
    assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride())


@pytest.mark.parametrize("value", [torch.arange(20.0)[::3], torch.rand(8, 8)[2:5, 1:4], torch.ones(1).expand(5)])
def test_only_the_data_of_a_view_is_sent(value: Tensor) -> None:
    packed = PackedBatch.pack(value)
    assert torch.equal(packed.unpack({}), value)
    assert packed._memory is not None
    assert packed._memory.numel() == 128


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_sent_as_by_torch() -> None:
    value = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])
    found = PackedBatch.pack({"value": value}).unpack({})["value"]
    assert [each.tolist() for each in found.unbind()] == [[1, 1], [0, 0, 0]]


def test_batches_are_on_the_cpu_whatever_the_default_device() -> None:
    with torch.device("meta"):
        found = PackedBatch.pack([torch.ones(2, device="cpu"), torch.empty(0, device="cpu")]).unpack({})
    assert [each.device.type for each in found] == ["cpu", "cpu"]


def test_full_shared_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> Block:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(shared_memory, "allocate_block", full)
    with pytest.raises(
        DataError, match="^the batch of samples 0, 1 cannot be sent from a worker.*No space left"
    ) as caught:
        list(SampleLoader(Tensors(), batch_size=2, num_workers=1, collate_fn=pseudo_collate, timeout=60))
    assert caught.value.notes[0].startswith("Shared memory (/dev/shm) is full")


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("value", [torch.eye(3).to_sparse(), torch.ones(2, requires_grad=True)])
def test_sparse_tensors_and_gradients_are_sent_as_by_torch(value: Tensor) -> None:
    found = PackedBatch.pack({"value": value}).unpack({})["value"]
    assert (found.layout, found.requires_grad) == (value.layout, value.requires_grad)
    assert torch.equal(found.to_dense(), value.to_dense())


def test_a_tensor_in_two_places_is_still_shared() -> None:
    value = torch.arange(3)
    first, second = PackedBatch.pack([value, value]).unpack({})
    first[0] = 7
    assert second.tolist() == [7, 1, 2]


def test_arrays_are_writable() -> None:
    found = PackedBatch.pack({"marks": np.arange(3), "column": np.asfortranarray(np.eye(2))}).unpack({})
    found["marks"][0] = 7
    assert found["marks"].tolist() == [7, 1, 2]
    assert found["column"].flags.f_contiguous


def test_tensors_are_aligned() -> None:
    found = PackedBatch.pack([torch.ones(1), torch.ones(3), torch.ones(17)]).unpack({})
    assert [each.data_ptr() % 64 for each in found] == [found[0].data_ptr() % 64] * 3
    found[0].zero_()
    assert [int(each.sum()) for each in found] == [0, 3, 17]


def test_a_batch_is_sent_with_one_tensor() -> None:
    packed = PackedBatch.pack([torch.ones(1000), torch.zeros(1000), {"more": torch.ones(1000, dtype=torch.int64)}])
    kept = [value for value in vars(packed).values() if isinstance(value, Tensor)]
    assert [each.is_shared() for each in kept] == [True]  # type: ignore[no-untyped-call]
    assert len(packed._content) < 1000
    assert pickle.loads(pickle.dumps(packed)).unpack({})[0].sum() == 1000


def test_workers_and_the_main_process_read_the_same_batches() -> None:
    def numbers(workers: int) -> Any:
        loader = SampleLoader(Tensors(), batch_size=3, num_workers=workers, collate_fn=pseudo_collate, seed=3)
        return [
            [(picture.sum().item(), marks.tolist()) for picture, marks in zip(*batch.values(), strict=True)]
            for batch in loader
        ]

    assert numbers(2) == numbers(0)
    assert numbers(0)[1] == [(3 * 4800, [0, 1, 2]), (4 * 4800, [0, 1, 2, 3]), (5 * 4800, [0, 1, 2, 3, 4])]


def test_a_block_is_sent_once_and_reused_after_its_batch_is_freed() -> None:
    pool, known = BlockPool(0, 4), dict[object, Tensor]()

    def send(value: int) -> Tensor:
        packed = PackedBatch.pack(torch.full((50,), value), pool.allocate)
        sent.append(packed._memory is not None)
        found: Tensor = packed.unpack(known)
        return found

    sent: list[bool] = []
    first, second = send(1), send(2)
    assert (int(first.sum()), int(second.sum()), sent) == (50, 100, [True, True])
    place = first.data_ptr()
    part = first[10:12].numpy()
    del first
    assert send(3).data_ptr() != place  # a tensor of the first batch is still alive
    del part
    assert send(4).data_ptr() == place
    assert (sent, len(known), int(second.sum())) == ([True, True, True, False], 3, 100)


def test_a_block_is_released_while_torch_fakes_tensors() -> None:
    pool = BlockPool(0, 4)
    found = PackedBatch.pack(torch.ones(4), pool.allocate).unpack({})
    with FakeTensorMode():
        del found
    assert PackedBatch.pack(torch.ones(4), pool.allocate)._memory is None  # known memory is reused


def test_keeping_a_small_tensor_does_not_keep_the_block() -> None:
    pool, known = BlockPool(0, 4), dict[object, Tensor]()
    batch = {"picture": torch.ones(100), "label": torch.tensor([3, 4]), "size": np.array([5, 6]), "none": torch.ones(0)}
    found = PackedBatch.pack(batch, pool.allocate, small=16).unpack(known)
    place = found["picture"].data_ptr()
    kept = [found[key] for key in ("label", "size", "none")]
    del found
    assert PackedBatch.pack(torch.zeros(100), pool.allocate, small=16).unpack(known).data_ptr() == place
    kept[0][0], kept[1][0] = 7, 8
    assert [each.tolist() for each in kept] == [[7, 4], [8, 6], []]


def test_a_larger_batch_gets_a_larger_block() -> None:
    pool, known = BlockPool(0, 4), dict[object, Tensor]()
    for size in (10, 1000, 10, 1100):
        assert PackedBatch.pack(torch.ones(size), pool.allocate).unpack(known).sum() == size
    assert [len(piece) for piece in known.values()] == [64 + 4032 + 1008]


def test_further_blocks_are_allocated_if_all_batches_are_kept() -> None:
    pool, known = BlockPool(0, 4), dict[object, Tensor]()
    kept = [PackedBatch.pack(torch.full((4,), each), pool.allocate).unpack(known) for each in range(40)]
    assert [int(each[0]) for each in kept] == list(range(40))
    assert len(known) == 4


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set")
@pytest.mark.parametrize("refills", [True, False])
def test_kept_batches_are_not_overwritten(refills: bool) -> None:
    loader = SampleLoader(Tensors(), num_workers=2, collate_fn=pseudo_collate, pin_memory=not refills)
    assert vars(loader._reader.dataset)["_reused_blocks"] == (4 if refills else 0)
    kept = list(loader)
    assert [batch["picture"][0].unique().tolist() for batch in kept] == [[each] for each in range(8)]
    places = {batch["picture"][0].data_ptr() for batch in kept}
    assert len(places) == 8


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set")
def test_batches_of_workers_are_in_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins batches as the thread of torch does if there is an accelerator."""
    pinned: list[Tensor] = []
    take = workers._MonitoringIterator._try_get_data

    def pin(self: Tensor) -> Tensor:
        pinned.append(self.clone())
        return pinned[-1]

    def take_pinned(self: Any, timeout: float) -> Any:
        is_there, found = take(self, timeout)
        return is_there, (found[0], found[1].pin_memory(), *found[2:]) if is_there else found

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(workers._MonitoringIterator, "_try_get_data", take_pinned)
    loader = SampleLoader(Tensors(), num_workers=1, collate_fn=pseudo_collate, pin_memory=True)
    kept = [batch["picture"][0] for batch in loader]
    assert [each.unique().tolist() for each in kept] == [[number] for number in range(8)]
    places = [each.untyped_storage().data_ptr() for each in kept]
    assert places == [each.untyped_storage().data_ptr() for each in pinned]


def test_persistent_workers_start_each_pass_with_new_blocks() -> None:
    loader = SampleLoader(Tensors(), batch_size=1, num_workers=1, collate_fn=pseudo_collate, persistent_workers=True)
    left = next(iter(loader))  # the workers have prefetched more, which is never consumed
    for _ in range(3):
        assert [batch["picture"][0][0, 0, 0].item() for batch in loader] == list(range(8))
    assert left["picture"][0].unique().tolist() == [0]


def test_a_block_is_released_only_by_the_process_that_unpacked_it() -> None:
    memory = allocate_block(0).memory.numpy()
    memory[0] = 1
    _release(memory, os.getpid() + 1)  # as in a worker that was forked while the batch was in use
    assert memory[0] == 1
    _release(memory, os.getpid())
    assert memory[0] == 2


def test_passes_over_persistent_workers_may_overlap() -> None:
    loader = SampleLoader(Tensors(), batch_size=1, num_workers=1, collate_fn=pseudo_collate, persistent_workers=True)
    found = [int(each["picture"][0].flatten()[0]) for pair in zip(loader, loader, strict=False) for each in pair]
    assert found == [0, 0, 1, 2, 3, 4, 5, 6]  # as with torch, the second pass starts over, and both share it


def test_pinned_tensors_are_views_of_the_pinned_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks copies to an accelerator, which torch tracks by storage."""
    pinned: list[Tensor] = []

    def pin(self: Tensor) -> Tensor:
        pinned.append(self.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batch: dict[str, Any] = {
        "a": torch.arange(6).reshape(2, 3).T,
        "b": torch.rand(5, dtype=torch.float64),
        "c": np.arange(4),
    }
    found = PackedBatch.pack(batch).pin_memory().unpack({})
    assert torch.equal(found["a"], batch["a"])
    assert found["a"].stride() == batch["a"].stride()
    assert torch.equal(found["b"], batch["b"])
    assert found["c"].tolist() == [0, 1, 2, 3]
    for name in ("a", "b"):
        assert found[name].untyped_storage().data_ptr() == pinned[0].untyped_storage().data_ptr()


def test_a_small_batch_needs_no_block() -> None:
    pool = BlockPool(0, 4)
    packed = PackedBatch.pack({"label": torch.arange(3), "name": "a"}, pool.allocate, small=100)
    assert (packed._memory, pool._memories) == (None, [])
    found = packed.pin_memory().unpack({})
    assert (found["label"].tolist(), found["name"]) == ([0, 1, 2], "a")
