from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from torch.utils.data import Dataset, Sampler

from footplate.config import Config
from footplate.data import SampleLoader, batch_plan, build_dataloader, samplers
from footplate.engine import Runner
from footplate.registry import DATA_SAMPLERS, DATASETS
from tests.footplate.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.footplate_openmmlab.first_generation.adapters.support import OldPoints, old_config
from tests.footplate_openmmlab.first_generation.translation.support import EPOCHS, ITERS, sections

FLAGS = np.array([1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1], dtype=np.uint8)  # 7 of group 0, 4 of group 1


@DATASETS.register_module()
class Flagged(Dataset[Any]):
    """Indices with random numbers. Each sample belongs to a group."""

    def __init__(self, flag: Any = FLAGS) -> None:
        if flag is not None:
            self.flag = flag

    def __len__(self) -> int:
        return len(FLAGS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index, "noise": np.random.rand()}


def loader(
    rank: int = 0, world: int = 1, *, length: Any = EPOCHS, flag: Any = FLAGS, section: str = "train", **data: Any
) -> SampleLoader:
    """Returns a loader of a first-generation config on one rank, by default that of training."""
    dataset = {"type": "Flagged", "flag": flag}
    common = {"samples_per_gpu": 2, "train": dataset, "val": dataset}
    cfg = sections({**length, "evaluation": {}, "data": {**common, **data}})
    with pytest.MonkeyPatch.context() as patch:
        for module in (samplers, batch_plan):
            patch.setattr(module, "get_rank", lambda: rank)
            patch.setattr(module, "get_world_size", lambda: world)
        built: SampleLoader = build_dataloader(cfg[f"{section}_dataloader"], seed=3)
    return built


def read(made: SampleLoader, **where: Any) -> list[Any]:
    return [(batch["index"].tolist(), batch["noise"].tolist()) for batch in islice(made.batches(**where), 30)]


@pytest.mark.parametrize("length", [EPOCHS, ITERS])
@pytest.mark.parametrize("world", [1, 2])
def test_no_batch_mixes_groups(length: Any, world: int) -> None:
    for rank in range(world):
        for indices, _ in read(loader(rank, world, length=length)):
            assert len(indices) == 2
            assert len(set(FLAGS[indices].tolist())) == 1


@pytest.mark.parametrize(("world", "batches"), [(1, 4 + 2), (2, 2 + 1), (3, 2 + 1)])
def test_epoch_pads_each_group_and_ranks_share_it(world: int, batches: int) -> None:
    made = [loader(rank, world, drop_last=True) for rank in range(world)]
    found = [read(each) for each in made]
    assert {len(each) for each in made} == {len(each) for each in found} == {batches}
    seen = [index for each in found for indices, _ in each for index in indices]
    assert set(seen) == set(range(len(FLAGS)))
    if world == 2:  # 7 samples fill 8 places, 4 samples fill 4
        assert len(seen) == len(FLAGS) + 1


@pytest.mark.parametrize(("length", "epoch"), [(EPOCHS, 2), (ITERS, 0)])
def test_resumed_pass_yields_the_same_batches(length: Any, epoch: int) -> None:
    whole = read(loader(1, 2, length=length), epoch=epoch)
    rest = read(loader(1, 2, length=length, workers_per_gpu=1), epoch=epoch, start=2)
    assert rest[: len(whole) - 2] == whole[2:]
    assert whole != read(loader(1, 2, length=length), epoch=epoch + 1) or length is ITERS


@DATASETS.register_module()
class FlaggedPoints(OldPoints):
    """Sixteen points, ten of group 0. Records the samples that are read."""

    flag = np.array([0, 1, 0, 0, 1, 0, 1, 0] * 2)
    flag[-1] = flag[-3] = 0
    reads: ClassVar[list[int]] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.reads.append(index)
        return super().__getitem__(index)


def train(folder: Path, resumed: str | None = None) -> tuple[list[int], dict[str, Any]]:
    """Trains for two epochs of three iterations per rank. Returns the indices that were read, and the weights."""
    cfg = old_config(folder, checkpoint_config={"interval": 2, "by_epoch": False}, resume_from=resumed)
    cfg["data"] = {"samples_per_gpu": 4, "workers_per_gpu": 0, "train": {"type": "FlaggedPoints"}}
    cfg["runner"] = {"type": "EpochBasedRunner", "max_epochs": 2}
    runner = Runner.from_cfg(Config({**cfg, "preflight": False, "launcher": "pytorch"}))
    FlaggedPoints.reads.clear()
    runner.train()
    weights = {name: value.tolist() for name, value in runner.model.state_dict().items()}
    return list(FlaggedPoints.reads), weights


def test_run_resumed_within_an_epoch_is_bit_identical_on_two_ranks(tmp_path: Path, on_ranks: OnRanks) -> None:  # noqa: F811
    whole = on_ranks(2, train, tmp_path / "whole")
    rest = on_ranks(2, train, tmp_path / "rest", str(tmp_path / "whole" / "iter_2.pth"))
    for (all_reads, weights), (reads, resumed_weights) in zip(whole, rest, strict=True):
        assert len(all_reads) == 2 * 3 * 4
        assert reads == all_reads[2 * 4 :]
        assert resumed_weights == weights
        assert all(len(set(FlaggedPoints.flag[all_reads[at : at + 4]])) == 1 for at in range(0, 24, 4))
    assert set(whole[0][0][:12]) | set(whole[1][0][:12]) == set(range(16))  # the first epoch


def test_dataset_without_groups_is_batched_as_before() -> None:
    plain = loader(flag=None, drop_last=True)
    before = loader(flag=None, sampler={"type": "DefaultSampler", "shuffle": True}, drop_last=True)
    assert read(plain) == read(before)
    assert len(plain) == 5


@pytest.mark.parametrize(
    "changes", [{"default_scope": "mmseg"}, {"data": {"shuffle": False}}, {"data": {"sampler": {"type": "Own"}}}]
)
def test_config_that_needs_no_groups_has_no_batch_sampler(changes: dict[str, Any]) -> None:
    data = {"samples_per_gpu": 2, "train": {"type": "A"}, **changes.pop("data", {})}
    assert "batch_sampler" not in sections({**EPOCHS, **changes, "data": data})["train_dataloader"]


@DATA_SAMPLERS.register_module()
class OneSequencePerPlace(Sampler[list[int]]):
    """Yields batches endlessly. Each place in a batch reads the groups in order, so that a model has a memory."""

    def __init__(self, dataset: Any, samples_per_gpu: int = 1, num_replicas: int = 1, rank: int = 0) -> None:
        self.flag, self.places = dataset.flag, range(rank * samples_per_gpu, (rank + 1) * samples_per_gpu)
        self.rest: list[list[int]] = [[] for _ in self.places]

    def __iter__(self) -> Any:
        while True:
            for place, rest in zip(self.places, self.rest, strict=True):
                rest += [] if rest else np.flatnonzero(self.flag == place % 2).tolist()
            yield [rest.pop(0) for rest in self.rest]

    def __len__(self) -> int:
        return len(self.flag)


@DATA_SAMPLERS.register_module()
class LastFirst(Sampler[int]):
    """Yields the samples in reverse order."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.size = len(dataset)

    def __iter__(self) -> Any:
        return iter(range(self.size)[::-1])

    def __len__(self) -> int:
        return self.size


def test_own_sampler_yields_batches_or_samples() -> None:
    made = loader(length=ITERS, shuffler_sampler={"type": "OneSequencePerPlace"}, nonshuffler_sampler={"type": "None"})
    assert [indices for indices, _ in read(made)][:5] == [[1, 0], [2, 3], [4, 6], [5, 10], [7, 0]]
    assert [indices for indices, _ in read(loader(1, 2, length=ITERS, shuffler_sampler={"type": "LastFirst"}))][:2] == [
        [10, 9],
        [8, 7],
    ]
    assert read(loader(shuffler_sampler={"type": "DistributedGroupSampler"})) == read(loader())


def test_own_sampler_of_validation_needs_a_single_process(caplog: pytest.LogCaptureFixture) -> None:
    def indices(kind: str, world: int, section: str = "val") -> list[int]:
        made = loader(0, world, section=section, shuffle=False, nonshuffler_sampler={"type": kind})
        return [index for batch, _ in read(made) for index in batch]

    assert indices("LastFirst", 1) == list(range(len(FLAGS)))[::-1]
    assert indices("LastFirst", 2, "train") == list(range(len(FLAGS)))[::-1]
    assert indices("DistributedSampler", 1) == list(range(len(FLAGS)))
    assert not caplog.messages
    assert indices("DistributedSampler", 2) == list(range(0, len(FLAGS), 2))
    (message,) = caplog.messages
    assert "data.nonshuffler_sampler (DistributedSampler) is not used with 2 processes" in message
