"""Each of several processes reads its share of a plain DataLoader, and metrics count each sample once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    random_split,
)

from footplate import Hook, Runner
from footplate.data import build_dataloader
from footplate.distributed import gather_objects, get_rank
from footplate.errors import ArgumentError, FootplateError, RankError
from footplate.evaluation import BaseMetric
from footplate.evaluation.evaluation_sets import build_loaders
from tests.footplate.distributed.conftest import OnRanks

SIZE = 19
TARGETS = TensorDataset(torch.arange(float(SIZE))[:, None], torch.arange(float(SIZE)))


class Loader(DataLoader[Any]):
    """A subclass that only changes defaults, like the loader of MONAI."""


class ThreadLoader(Loader):
    def __iter__(self) -> Any:
        return super().__iter__()


class Pairs(Sampler[list[int]]):
    """A batch sampler of the user: pairs of neighbours, in a random order of torch's global generator."""

    def __iter__(self) -> Iterator[list[int]]:
        starts = (2 * torch.randperm(len(self))).tolist()
        return iter([[start, start + 1] if start + 1 < SIZE else [start] for start in starts])

    def __len__(self) -> int:
        return -(-SIZE // 2)


class Odd(Sampler[int]):
    """A sampler of the user."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, SIZE, 2))

    def __len__(self) -> int:
        return SIZE // 2


WEIGHTED = {
    "type": "torch.utils.data.WeightedRandomSampler",
    "weights": [1.0] * SIZE,
    "num_samples": SIZE,
    "replacement": False,
}
LOADERS: dict[str, Callable[[], Any]] = {
    "sequential": lambda: DataLoader(TARGETS, 4),
    "shuffle": lambda: Loader(TARGETS, 4, shuffle=True),
    "generator": lambda: DataLoader(TARGETS, 4, shuffle=True, generator=torch.Generator().manual_seed(1)),
    "distributed": lambda: DataLoader(
        TARGETS, 4, sampler=DistributedSampler(TARGETS) if dist.is_initialized() else None
    ),
    "subset": lambda: DataLoader(TARGETS, 4, sampler=SubsetRandomSampler(range(1, SIZE, 2))),
    "section": lambda: {"dataset": TARGETS, "sampler": WEIGHTED, "collate_fn": "default_collate"},
    "own": lambda: DataLoader(TARGETS, 2, sampler=Odd()),
    "own_batches": lambda: DataLoader(TARGETS, batch_sampler=Pairs()),
}
EXPECTED = {"subset": range(1, SIZE, 2), "own": range(1, SIZE, 2)}


def read(kind: str, is_evaluated: bool) -> list[list[int]]:
    """Returns the samples that this rank reads in each of two epochs."""
    loader = LOADERS[kind]()
    build = partial(build_dataloader, seed=7)
    built = build_loaders(loader, build) if is_evaluated else build(loader)
    epochs = []
    for epoch in range(2):
        batches = [(batch[1].int().tolist(), built.is_padding) for batch in built.batches(epoch=epoch)]
        assert len(batches) == len(built)
        epochs.append([sample for batch, is_padding in batches if not is_padding for sample in batch])
    return epochs


def read_all() -> dict[tuple[str, bool], list[list[int]]]:
    return {(kind, is_evaluated): read(kind, is_evaluated) for kind in LOADERS for is_evaluated in (True, False)}


def test_ranks_share_the_samples_of_a_plain_loader(on_ranks: OnRanks) -> None:
    ranks = on_ranks(3, read_all)
    for kind in LOADERS:
        expected = list(EXPECTED.get(kind, range(SIZE)))
        for epoch in range(2):
            assert sorted(sum((rank[kind, True][epoch] for rank in ranks), [])) == expected, kind
            samples: list[int] = sum((rank[kind, False][epoch] for rank in ranks), [])
            assert set(samples) == set(expected), kind
            assert len(samples) - len(expected) <= (4 if kind == "own_batches" else 2), kind
        if kind not in ("sequential", "own"):
            assert ranks[0][kind, True][0] != ranks[0][kind, True][1], kind  # another order in each epoch


def read_full_batches() -> list[list[float]]:
    loader = build_dataloader(DataLoader(TARGETS, 4, shuffle=True, drop_last=True), seed=7)
    return [batch[1].tolist() for batch in loader]


def test_drop_last_drops_incomplete_batches_of_each_rank(on_ranks: OnRanks) -> None:
    first, second = on_ranks(2, read_full_batches)
    assert [len(batch) for batch in (*first, *second)] == [4, 4, 4, 4]
    assert not set(sum(first, [])) & set(sum(second, []))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(TARGETS)


class StreamOfRank(Stream):
    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def __iter__(self) -> Iterator[Any]:
        return iter([TARGETS[index] for index in range(self.rank, SIZE, self.size)])


def refusals() -> list[str]:
    texts = []
    wrong: Any = DistributedSampler(TARGETS, num_replicas=3, rank=0)
    config = {"dataset": Stream(), "batch_size": 4}
    for loader in (DataLoader(Stream(), 4), config, ThreadLoader(TARGETS), DataLoader(TARGETS, sampler=wrong)):
        with pytest.raises(ArgumentError) as caught:
            build_dataloader(loader)
        texts.append(str(caught.value))
    assert build_dataloader(DataLoader(StreamOfRank(), 4)) is not None
    return texts


def test_loaders_that_cannot_be_shared_are_refused(on_ranks: OnRanks) -> None:
    stream, config, threads, sampler = on_ranks(2, refusals)[1]
    assert stream == config
    assert "each of the 2 processes would read all batches from this data loader" in stream
    assert "If 'Stream' yields only the samples of its own process, set its `rank` attribute." in stream
    assert "'ThreadLoader' yields" in threads
    assert "splits the samples across 3 processes, but the run has 2" in sampler


class LengthyStream(StreamOfRank):
    def __len__(self) -> int:
        return len(range(self.rank, SIZE, self.size))


class ShortStream(StreamOfRank):
    """A stream whose last rank has fewer samples than its length."""

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        return islice(cycle(super().__iter__()), 6 - self.rank)


def error_of_a_short_pass(folder: Path) -> str:
    model = torch.nn.Linear(1, 1)
    runner = Runner(
        model, folder, DataLoader(ShortStream(), 1), max_epochs=1, loss=lambda output, target: (output - target).mean(),
        optim_wrapper=torch.optim.SGD(model.parameters(), 0.1),
    )  # fmt: skip
    with pytest.raises((FootplateError, RuntimeError)) as caught:  # the other rank loses the connection
        runner.train()
    return str(caught.value)


def test_a_rank_with_fewer_batches_than_its_length_ends_the_run(tmp_path: Path, on_ranks: OnRanks) -> None:
    assert on_ranks(2, error_of_a_short_pass, tmp_path)[1] == "epoch 1 had 5 batches, but len(dataloader) is 6"


def differing(folder: Path) -> list[str]:
    """Returns the errors of runs whose data differ between the ranks."""
    shorter = DataLoader(TensorDataset(*TARGETS[: SIZE - get_rank()]), 4)
    torch.manual_seed(get_rank())
    train, val = (DataLoader(part, 4) for part in random_split(TARGETS, [14, 5]))
    same = DataLoader(TARGETS, 4)
    texts = []
    for number, loaders in enumerate(
        [(train, None), (shorter, None), (same, val), (DataLoader(LengthyStream(), 9), None)]
    ):
        model = torch.nn.Linear(1, 1)
        runner = Runner(
            model, folder / str(number), *loaders, max_epochs=1, loss=torch.nn.MSELoss(),
            optim_wrapper=torch.optim.SGD(model.parameters(), 0.1),
        )  # fmt: skip
        with pytest.raises(FootplateError) as caught:
            runner.train()
        texts.append(str(caught.value))
    return texts


def test_data_that_differ_between_ranks_are_refused(tmp_path: Path, on_ranks: OnRanks) -> None:
    split, shorter, validation, stream = on_ranks(2, differing, tmp_path)[1]
    problem = "the dataset on rank 1 differs from the dataset on rank 0"
    assert split.startswith(problem)
    assert "Subset: 14 samples, digest" in split
    assert "Call torch.manual_seed before random_split" in split
    assert "TensorDataset: 18 samples on rank 1, TensorDataset: 19 samples on rank 0" in shorter
    assert validation.startswith(problem)
    assert "key val_dataloader" in validation
    assert stream.startswith("epoch-based training needs the same number of batches on each rank")
    assert "found: [2, 1]" in stream


class PerSample(BaseMetric[float]):
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results += data_batch[1].tolist()

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"samples": sum(results) / len(results)}


class PerBatch(BaseMetric[tuple[float, int]]):
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results.append((float(data_batch[1].sum()), len(data_batch[1])))

    def compute_metrics(self, results: list[tuple[float, int]]) -> dict[str, float]:
        return {"batches": sum(total for total, _ in results) / sum(count for _, count in results)}


class PerBox(BaseMetric[float]):
    """Several entries per sample."""

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results += 3 * data_batch[1].tolist()

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"boxes": sum(results) / len(results)}


def mean_target(predictions: Any, batch: Any) -> Any:
    return batch[1].mean()


class Samples(Hook):
    """Records the samples of each iteration."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def after_train_iter(self, runner: Any, data_batch: Any) -> None:  # type: ignore[override]
        self.seen.append(data_batch[1].tolist())


def validated(folder: Path, loader: Any, metrics: Any, step: Callable[..., Any], times: int = 1) -> Any:
    """Returns the metrics of the last of several validations."""
    given: dict[str, Any] = {"val_dataloader": loader, "val_evaluator": metrics, "val_cfg": {}}
    runner = Runner(torch.nn.Linear(1, 1), folder, validation_step=step, **given)
    return [runner.val() for _ in range(times)][-1]


def metrics_of(folder: Path) -> list[dict[str, float]]:
    """Returns the metrics on several loaders, each of which contains targets with a mean of 9."""
    kinds = ("sequential", "shuffle", "distributed", "subset", "own_batches")
    metrics = [mean_target, PerSample(), PerBatch(), PerBox()]
    return [validated(folder, LOADERS[kind](), metrics, lambda model, batch: list(model(batch[0]))) for kind in kinds]


def test_metrics_of_several_processes_equal_those_of_one(tmp_path: Path, on_ranks: OnRanks) -> None:
    expected = 5 * [pytest.approx(dict.fromkeys(("mean_target", "samples", "batches", "boxes"), 9.0))]
    assert metrics_of(tmp_path) == expected
    assert on_ranks(3, metrics_of, tmp_path) == [expected] * 3


def train(folder: Path, epochs: int, resume: bool = False) -> tuple[list[list[float]], list[Any], list[Any]]:
    torch.manual_seed(0)
    model, hook = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0)), Samples()
    runner = Runner(
        model,
        folder,
        DataLoader(TARGETS, 4, shuffle=True, num_workers=1),
        max_epochs=3,
        loss=torch.nn.functional.l1_loss,
        optim_wrapper=torch.optim.SGD(model.parameters(), lr=1e-3),
        custom_hooks=[hook, *([Stop(epochs)] if epochs < 3 else [])],
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 4}, "logger": {"interval": 2}},
        randomness={"seed": 5},
        resume=resume,
    )
    runner.train()
    return hook.seen, [each.tolist() for each in model.parameters()], list(runner.history)


class Stop(Hook):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def after_train_epoch(self, runner: Any) -> None:
        runner.train_loop.stop_training = runner.epoch + 1 == self.epochs


def resumed(folder: Path) -> Any:
    train(folder, 2)
    return train(folder, 3, resume=True)


def test_a_run_on_a_plain_loader_resumes_exactly(tmp_path: Path, on_ranks: OnRanks) -> None:
    whole, rest = on_ranks(2, train, tmp_path / "whole", 3), on_ranks(2, resumed, tmp_path / "parts")
    for (seen, weights, history), (seen_after, weights_after, history_after) in zip(whole, rest, strict=True):
        assert (weights, history) == (weights_after, history_after)
        assert seen[-len(seen_after) :] == seen_after
    assert whole[0][0] != whole[1][0]
    assert whole[0][1] == whole[1][1]


class Frozen(torch.nn.Module):
    """Computes a loss that depends on the samples only, as the learning rate is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor, target: torch.Tensor) -> Any:
        return {"loss": (inputs[:, 0] * self.weight - target).square().mean()}


class ReadsHead(Hook):
    def __init__(self) -> None:
        self.text = ""

    def before_train(self, runner: Any) -> None:
        assert runner.unwrapped_model.weight.shape == (1,)
        with pytest.raises(AttributeError) as caught:
            _ = runner.model.weight
        self.text = str(caught.value)
        assert caught.value.obj is None  # otherwise Python adds "Did you mean: ..."


def losses(folder: Path, batch_size: int) -> tuple[list[Any], list[float], str]:
    model, hook = Frozen(), ReadsHead()
    runner = Runner(
        model,
        folder,
        DataLoader(torch.utils.data.Subset(TARGETS, range(16)), batch_size, shuffle=True),
        max_epochs=2,
        optim_wrapper=torch.optim.SGD(model.parameters(), lr=0.0),
        custom_hooks=[hook],
        default_hooks={"logger": {"interval": 1}},
        log_processor={"window_size": 1},
        randomness={"seed": 5},
    )
    runner.train()
    return list(runner.history), runner.message_hub.get_scalar("train/loss").data[0].tolist(), hook.text


def test_logged_losses_are_means_over_the_processes(tmp_path: Path, on_ranks: OnRanks) -> None:
    history, values, advice = losses(tmp_path / "one", 8)
    for rank_history, rank_values, text in on_ranks(2, losses, tmp_path / "two", 4):
        assert [row["loss"] for row in rank_history] == pytest.approx([row["loss"] for row in history])
        assert rank_values == pytest.approx(values)
        assert text == advice == "runner.model is a wrapper, which has no 'weight': write runner.unwrapped_model.weight"


class Order:
    """A metric object of the user, which keeps what it has seen."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, predictions: torch.Tensor, target: torch.Tensor) -> None:
        assert predictions[:, 0].tolist() == target.tolist()
        self.seen += target.tolist()

    def compute(self) -> dict[str, float]:
        return {
            "sum": sum(self.seen),
            "count": len(self.seen),
            "in_order": self.seen == sorted(self.seen),
            "rank": get_rank(),
        }

    def reset(self) -> None:
        self.seen = []


class Synchronized(Order):
    """Combines the processes itself, as an object of torchmetrics does."""

    def sync(self) -> None:
        self.seen = sum(gather_objects(self.seen), [])

    def compute(self) -> dict[str, float]:
        self.sync()
        return super().compute()


def values_of_objects(folder: Path) -> Any:
    metrics = {"plain": Order(), "synchronized": Synchronized()}
    return validated(folder, DataLoader(TARGETS, 4), metrics, lambda model, batch: batch[0], times=2)


def test_a_metric_object_sees_every_sample_once_and_in_order(tmp_path: Path, on_ranks: OnRanks) -> None:
    for values in [values_of_objects(tmp_path), *on_ranks(2, values_of_objects, tmp_path)]:
        assert values["plain/sum"] == values["synchronized/sum"] == 171
        assert (values["plain/count"], values["synchronized/count"]) == (SIZE, SIZE)
        assert (values["plain/in_order"], values["plain/rank"], values["synchronized/rank"]) == (1, 0, 0)


class OwnShare(Sampler[int]):
    """Yields the samples of its own process, but lacks the attribute `rank`."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(get_rank(), SIZE, dist.get_world_size()))

    def __len__(self) -> int:
        return len(range(get_rank(), SIZE, dist.get_world_size()))


class SeedOfRank(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(SIZE, generator=torch.Generator().manual_seed(get_rank())).tolist())

    def __len__(self) -> int:
        return SIZE


def read_different_orders() -> None:
    for sampler in (OwnShare(), SeedOfRank()):
        for build in (build_dataloader, partial(build_loaders, build=build_dataloader)):
            with pytest.raises(RankError) as caught:
                list(build(DataLoader(TARGETS, 4, sampler=sampler)))
            problem, difference, advice = str(caught.value).splitlines()
            assert f"'{type(sampler).__name__}' yields different samples in some processes" in problem
            assert "digest of the first samples" in difference
            assert "the same seed" in advice


def test_a_sampler_whose_order_differs_between_ranks_is_an_error(on_ranks: OnRanks) -> None:
    on_ranks(2, read_different_orders)
