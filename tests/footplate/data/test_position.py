from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, get_worker_info

from footplate import Runner
from footplate.data import InfiniteSampler, SampleLoader
from footplate.data.position import DataPosition, track_position
from footplate.registry import DATASETS
from tests.footplate.data.own_loaders import OwnState, Seen
from tests.support import loader, settings


@DATASETS.register_module()
class Numbered(Dataset[Any]):
    """Samples that contain their index."""

    def __init__(self, size: int = 24) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return {"inputs": torch.full((4,), float(index)), "labels": index % 2}


@DATASETS.register_module()
class NoisyStream(IterableDataset[Any]):
    """Noisy samples, distributed among the workers."""

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, 12, step):
            yield {"inputs": index + torch.randn(4), "labels": index % 2}


def run(
    work_dir: Path,
    train_cfg: dict[str, Any],
    *,
    size: int,
    sampler: str,
    save_at: int = 0,
    limit: int | None = None,
    **changes: Any,
) -> tuple[Runner, list[int], int]:
    data = loader(
        batch_size=size, dataset={"type": "Numbered"}, sampler={"type": sampler, "shuffle": True}, drop_last=False
    )
    data["num_batch_per_epoch"] = limit
    seen = Seen(save_at)
    runner = Runner(
        **settings(
            work_dir,
            train_dataloader=data,
            train_cfg=train_cfg,
            default_hooks={"checkpoint": None, "logger": None},
            custom_hooks=[seen],
            param_scheduler=None,
            **changes,
        )
    )
    runner.train()
    return runner, seen.samples, seen.first


def streamed(work_dir: Path, iterations: int, *, workers: int, **changes: Any) -> Runner:
    cfg = settings(
        work_dir,
        train_dataloader={
            "batch_size": 3,
            "num_workers": workers,
            "dataset": {"type": "NoisyStream"},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": False, "max_iters": iterations, "val_interval": 99},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 3}, "logger": None},
        param_scheduler=None,
        **changes,
    )
    runner = Runner(**cfg)
    runner.train()
    return runner


def test_a_stream_read_by_workers_resumes_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = streamed(tmp_path / "whole", 8, workers=2)
    streamed(tmp_path / "parts", 6, workers=2)
    resumed = streamed(tmp_path / "parts", 8, workers=2, resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    assert not [each for each in caplog.messages if "no longer bit-identical" in each]
    streamed(tmp_path / "parts", 9, workers=1, resume=True)
    assert any("number of workers 1 instead of 2" in each for each in caplog.messages)


EPOCHS = {"by_epoch": True, "max_epochs": 3, "val_interval": 9}
ITERATIONS = {"by_epoch": False, "max_iters": 18, "val_interval": 99}


@pytest.mark.parametrize(("first", "size", "start", "begin"), [(4, 3, 2, 6), (4, 8, 6, 24), (5, 5, 7, 34)])
def test_epochs_resume_at_the_batch_of_the_next_sample_also_with_a_different_batch_size(
    tmp_path: Path, first: int, size: int, start: int, begin: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, whole, _ = run(tmp_path, EPOCHS, size=first, sampler="DefaultSampler", save_at=start)
    path = str(tmp_path / f"iter_{start}.pth")
    resumed, rest, _ = run(tmp_path / "other", EPOCHS, size=size, sampler="DefaultSampler", resume=True, load_from=path)
    assert rest == whole[begin:]
    assert (resumed.iter, resumed.epoch) == (-(-24 // size) * 3, 3)
    said = [each for each in caplog.messages if "is no longer bit-identical" in each]
    assert len(said) == (size != first)
    words = f"batch {begin // size} of epoch 1 with different settings (batch size {size} instead of {first}"
    assert all(words in each for each in said)


@pytest.mark.parametrize(("sampler", "size"), [("DefaultSampler", 3), ("InfiniteSampler", 8)])
def test_iterations_resume_at_the_batch_of_the_next_sample_twice(tmp_path: Path, sampler: str, size: int) -> None:
    _, whole, _ = run(tmp_path, {**ITERATIONS, "max_iters": 30}, size=4, sampler=sampler, save_at=9)
    path = str(tmp_path / "iter_9.pth")
    there: dict[str, Any] = {"sampler": sampler, "resume": True, "load_from": path}
    _, rest, first = run(tmp_path / "b", ITERATIONS, size=size, save_at=12, **there)
    begin = 36 // size * size
    assert (rest, first) == (whole[begin : begin + len(rest)], 9)
    path = str(tmp_path / "b/iter_12.pth")
    _, again, _ = run(tmp_path / "c", ITERATIONS, size=size, sampler=sampler, resume=True, load_from=path)
    assert again == rest[3 * size :]
    _, back, _ = run(tmp_path / "d", ITERATIONS, size=4, sampler=sampler, resume=True, load_from=path)
    assert back == whole[(begin + 3 * size) // 4 * 4 :][: len(back)]
    assert len(back) > 20


def position(monkeypatch: pytest.MonkeyPatch, rank: int, world: int, size: int) -> DataPosition:
    """Returns the position of one of several ranks in an endless order of samples."""
    for module in ("position", "batch_plan", "samplers"):
        monkeypatch.setattr(f"footplate.data.{module}.get_world_size", lambda: world)
        if module != "position":
            monkeypatch.setattr(f"footplate.data.{module}.get_rank", lambda: rank)
    sampler = InfiniteSampler(range(50), seed=0)
    return track_position(SampleLoader(range(50), sampler=sampler, batch_size=size, collate_fn=list))


@pytest.mark.parametrize(("world", "size", "first"), [(1, 8, 32), (4, 2, 32), (7, 2, 28)])
def test_another_number_of_processes_continues_at_the_batch_of_the_next_sample(
    world: int, size: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = position(monkeypatch, 0, 1, 8).state_dict(0, 4)
    order = list(islice(InfiniteSampler(range(50), seed=0), 100))
    shares = []
    for rank in range(world):
        here = position(monkeypatch, rank, world, size)
        here.load_state_dict(state, 4)
        shares += list(islice(here.endless(4), 3))
    assert sorted(chain(*shares)) == sorted(order[first : first + 3 * size * world])


class Lines(IterableDataset[int]):
    def __init__(self, size: int = 48) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        return iter(range(self.size))


@pytest.mark.parametrize(("size", "begin"), [(4, 24), (16, 16), (48, 0)])
def test_streams_resume_at_the_batch_of_the_next_sample(size: int, begin: int) -> None:
    resumed = track_position(DataLoader(Lines(), size))
    resumed.load_state_dict(track_position(DataLoader(Lines(), 8)).state_dict(0, 3), 3)
    assert resumed.locate(3) == (0, begin // size)
    assert next(resumed.endless(3))[0] == begin


@pytest.mark.parametrize(("by_epoch", "start"), [(True, 5), (False, 8)])
def test_limited_epochs_of_an_endless_sampler_are_one_stream(tmp_path: Path, by_epoch: bool, start: int) -> None:
    length = EPOCHS if by_epoch else {**ITERATIONS, "max_iters": 15}
    given: Any = {"size": 4, "sampler": "InfiniteSampler", "limit": 5}
    whole, samples, _ = run(tmp_path / "whole", length, save_at=start, **given)
    assert (whole.iter, whole.epoch) == (15, 3)
    assert samples == list(islice(InfiniteSampler(range(24), seed=whole.seed), 60))

    saved = str(tmp_path / f"whole/iter_{start}.pth")
    resumed, rest, first = run(tmp_path / "parts", length, resume=True, load_from=saved, **given)
    assert (first, resumed.iter, resumed.epoch) == (start, 15, 3)
    assert rest == samples[4 * start :]
    assert all(torch.equal(*pair) for pair in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


class OwnStateInDataset(OwnState, IterableDataset[Any]):
    """The same as a dataset, which a DataLoader reads in this process."""


class NextPass(OwnState):
    """Loaded with a state from the end of a pass, it begins with the next pass."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.is_loaded = self.done < 6


@pytest.mark.parametrize(
    ("kind", "train_cfg", "save_at"),
    [(OwnState, EPOCHS, 2), (OwnState, ITERATIONS, 6), (NextPass, EPOCHS, "epoch"), (OwnStateInDataset, ITERATIONS, 9)],
)
def test_a_loader_with_a_state_continues_from_it(
    tmp_path: Path, kind: type[Any], train_cfg: dict[str, Any], save_at: Any
) -> None:
    def train(**changes: Any) -> tuple[list[int], Any, torch.Tensor]:
        stateful = kind()
        seen = Seen(0 if save_at == "epoch" else save_at)
        checkpoint = {"by_epoch": train_cfg["by_epoch"], "interval": 1 if train_cfg["by_epoch"] else 6}
        hooks = {"checkpoint": checkpoint if save_at == "epoch" else None, "logger": None}
        data = DataLoader(stateful, batch_size=None) if isinstance(stateful, IterableDataset) else stateful
        changes |= {"train_dataloader": data, "train_cfg": train_cfg, "default_hooks": hooks, "custom_hooks": [seen]}
        changes["model"] = {"type": "ToyModel", "dropout": 0.3}
        runner = Runner(**settings(tmp_path, param_scheduler=None, **changes))
        runner.train()
        return seen.samples, stateful, runner.model.layers[0].weight

    whole, _, weight = train()
    (name,) = [path for path in tmp_path.glob("*_*.pth") if path.stem in ("epoch_1", f"iter_{save_at}", "iter_6")]
    resumed, stateful, resumed_weight = train(load_from=str(name), resume=True)
    done = 6 if save_at == "epoch" else save_at
    assert len(whole) > len(resumed) > 0
    assert resumed == whole[done * len(whole) // 18 :]
    assert stateful.passes == 3
    assert torch.equal(weight, resumed_weight)


class Unseeded(IterableDataset[Any]):
    """Yields 16 samples, in the order of a number that the next process does not know."""

    def __init__(self, order: int) -> None:
        self.order = order

    def __iter__(self) -> Any:
        for index in torch.randperm(16, generator=torch.Generator().manual_seed(self.order)).tolist():
            yield {"inputs": torch.full((4,), float(index)), "labels": index % 2}


class SizedUnseeded(Unseeded):
    def __len__(self) -> int:
        return 16


@pytest.mark.parametrize(
    ("by_epoch", "order", "make"),
    [(True, 0, SizedUnseeded), (True, 1, SizedUnseeded), (False, 1, SizedUnseeded), (False, 0, Unseeded)]
    + [(False, 1, Unseeded)],
)
def test_a_resume_warns_if_the_skipped_batches_differ(
    tmp_path: Path, by_epoch: bool, order: int, make: type[Unseeded], caplog: pytest.LogCaptureFixture
) -> None:
    def train(order: int, **changes: Any) -> None:
        dataset = make(order)
        changes |= {"by_epoch": by_epoch, "train_dataloader": DataLoader(dataset, 4), "param_scheduler": None}
        changes["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 1}}
        Runner(**settings(tmp_path, **changes)).train()

    train(0)
    train(order, resume=True, load_from=str(tmp_path / "iter_6.pth"))
    assert caplog.text.count("The data loader yields other batches than before the resume") == order


def test_stream_without_a_length_resumes_at_its_next_sample_with_another_batch_size() -> None:
    def read(size: int, iteration: int, state: dict[str, Any] | None) -> tuple[list[int], dict[str, Any]]:
        position = track_position(DataLoader(Unseeded(0), size))
        if state is not None:
            position.load_state_dict(state, iteration)
        batches = position.endless(iteration)
        labels = [number for _ in range(2) for number in next(batches)["inputs"][:, 0].int().tolist()]
        return labels, position.state_dict(*position.locate(iteration + 2))

    first, state = read(2, 0, None)
    second, state = read(4, 2, state)
    third, _ = read(4, 4, state)
    assert [*first, *second, *third[:4]] == [int(each["inputs"][0]) for each in Unseeded(0)]


class Paired(Numbered):
    """Samples with random pairs, which training redraws."""

    def __init__(self) -> None:
        super().__init__()
        self.draw(0)

    def draw(self, epoch: int) -> "Paired":
        self.pairs = np.random.default_rng(epoch).permutation(1000)
        return self


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(
    ("epoch", "batch", "drawn", "warns"),
    [(1, 3, 0, True), (1, 3, 1, False), (1, 0, 0, True), (1, 0, 2, False), (0, 3, 0, False)],
)
def test_a_dataset_that_differs_from_the_saved_one_is_a_warning(
    epoch: int, batch: int, drawn: int, warns: bool, wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def position(dataset: Paired) -> DataPosition:
        return track_position(DataLoader(Subset(dataset, range(24)) if wrapped else dataset, 4))

    saved = position(Paired().draw(epoch)).state_dict(epoch, batch)
    dataset = Paired()
    resumed = position(dataset)
    resumed.load_state_dict(saved, batch)
    dataset.draw(drawn)  # as a hook before the epoch
    next(resumed.one_pass(epoch, batch, batch))
    names = [message.split("(")[1].split(")")[0] for message in caplog.messages if "The dataset differs" in message]
    assert names == (["0.pairs" if wrapped else "pairs"] if warns else [])
