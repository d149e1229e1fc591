"""Losses and metrics with weights: means over tokens are the same for any batches, accumulation and processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from footplate import Runner, Sum, Weighted
from footplate.distributed import get_world_size
from footplate.errors import ArgumentError
from tests.footplate.distributed.conftest import OnRanks

IGNORED, SIZE, BATCH, TOKENS = -100, 26, 4, 5
Batch = tuple[Tensor, Tensor]


class Sentences(Dataset[Any]):
    """Sentences of 1 to 12 tokens; every third token, and all of the fifth sentence, have no label."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Batch:
        tokens = torch.randint(TOKENS, (1 + 5 * index % 12,), generator=torch.Generator().manual_seed(index))
        labels = tokens.roll(-1)
        labels[::3] = IGNORED
        return tokens, labels if index != 5 else labels.fill_(IGNORED)


def padded(samples: list[Batch]) -> Batch:
    tokens, labels = zip(*samples, strict=True)
    return (
        nn.utils.rnn.pad_sequence(list(tokens), batch_first=True),
        nn.utils.rnn.pad_sequence(list(labels), batch_first=True, padding_value=IGNORED),
    )


def loader() -> DataLoader[Any]:
    return DataLoader(Sentences(), BATCH // get_world_size() or 1, collate_fn=padded)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(TOKENS, 8), nn.Linear(8, TOKENS)).double()


def loss_of(scores: Tensor, labels: Tensor) -> Weighted:
    loss = F.cross_entropy(scores.movedim(-1, 1), labels, ignore_index=IGNORED)
    return Weighted(loss, (labels != IGNORED).sum())


def train(folder: Path, counts: int = 1, **changes: Any) -> tuple[list[Tensor], list[dict[str, float]]]:
    """Returns the weights and the history of a run of two epochs."""
    model = network()
    optimizer = {"type": "SGD", "lr": 0.5, "momentum": 0.9}
    wrapper = {"optimizer": optimizer, "accumulative_counts": counts, "clip_grad": {"max_norm": 0.05}}
    settings = {"max_epochs": 2, "loss": loss_of, "optim_wrapper": wrapper, "preflight": False, **changes}
    runner = Runner(model, folder, loader(), loader(), **settings)
    history = runner.train()
    return [
        weight.full_tensor() if hasattr(weight, "full_tensor") else weight.detach() for weight in model.parameters()
    ], list(history)


def rounds(counts: int) -> Iterator[list[Batch]]:
    """Yields the batches of each optimizer step in two epochs. The last step has fewer batches."""
    batches = [
        padded([Sentences()[i] for i in range(start, min(start + BATCH, SIZE))]) for start in range(0, SIZE, BATCH)
    ]
    batches *= 2
    for start in range(0, len(batches), counts):
        yield batches[start : start + counts]


def train_by_hand(counts: int) -> list[Tensor]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for batches in rounds(counts):
        total: Any = sum((labels != IGNORED).sum() for _, labels in batches)
        for tokens, labels in batches:
            scores = model(tokens).movedim(-1, 1)
            (F.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum") / total).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
    return [weight.detach() for weight in model.parameters()]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max((one - other).abs().max().item() for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("counts", [1, 4])
def test_weights_equal_those_of_a_loop_over_all_labels(tmp_path: Path, counts: int) -> None:
    assert difference(train(tmp_path, counts)[0], train_by_hand(counts)) < (1e-12 if counts > 1 else 1e-15)


def several(folder: Path, cases: list[tuple[int, dict[str, Any]]]) -> list[Any]:
    return [train(folder / str(number), counts, **changes) for number, (counts, changes) in enumerate(cases)]


def test_two_ranks_train_and_validate_like_one(tmp_path: Path, on_ranks: OnRanks) -> None:
    fsdp = {"model_wrapper_cfg": {"type": "FullyShard", "shard": {"classes": ["Embedding"]}}}
    cases: list[tuple[int, dict[str, Any]]] = [(1, {}), (4, {}), (4, fsdp)]
    alone = {counts: train(tmp_path / f"alone{counts}", counts) for counts in (1, 4)}
    for (found, history), (counts, _) in zip(on_ranks(2, several, tmp_path, cases)[0], cases, strict=True):
        expected_history = alone[counts][1]
        assert difference(found, train_by_hand(counts)) < 1e-12
        for row, expected_row in zip(history, expected_history, strict=True):
            assert row == pytest.approx(expected_row, rel=1e-12)


def test_killed_round_continues_with_its_weights(tmp_path: Path) -> None:
    model = network()

    def run(**changes: Any) -> Runner:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        wrapper = {"optimizer": optimizer, "accumulative_counts": 4}
        hooks = {"checkpoint": {"interval": 6, "by_epoch": False, "max_keep_ckpts": -1}}
        return Runner(
            model,
            tmp_path / "a",
            loader(),
            max_epochs=2,
            loss=loss_of,
            optim_wrapper=wrapper,
            default_hooks=hooks,
            preflight=False,
            **changes,
        )

    run().train()
    expected = [weight.detach().clone() for weight in model.parameters()]
    model = network()
    runner = run(load_from=str(tmp_path / "a" / "iter_6.pth"), resume=True)
    assert runner.train()
    assert difference([weight.detach() for weight in model.parameters()], expected) == 0


def measure(model: nn.Module, batch: Batch) -> dict[str, Any]:
    tokens, labels = batch
    scores = model(tokens)
    loss, count = loss_of(scores, labels)
    right = (scores.argmax(-1) == labels).sum()
    return {
        "nll": Weighted(loss, count),
        "accuracy": Weighted(right / count, count),
        "correct": Sum(right),
        "sentences": Sum(len(tokens)),
        "mse": masked_error(scores, labels),
    }


def masked_error(scores: Tensor, labels: Tensor) -> Weighted:
    known = labels != IGNORED
    return Weighted((scores[..., 0] - labels)[known].square().mean(), known.sum())


def validate(folder: Path) -> dict[str, float]:
    runner = Runner(network(), folder, val_dataloader=loader(), training_step=step, validation_step=measure)
    return runner.val()


def step(model: Any, batch: Batch) -> Any:
    return loss_of(model(batch[0]), batch[1])


def test_metrics_are_the_same_on_any_number_of_ranks(tmp_path: Path, on_ranks: OnRanks) -> None:
    model, (tokens, labels) = network(), padded([Sentences()[index] for index in range(SIZE)])
    scores = model(tokens)
    loss, count = loss_of(scores, labels)
    correct = (scores.argmax(-1) == labels).sum().item()
    expected = {"nll": loss.item(), "accuracy": correct / count.item(), "correct": correct, "sentences": SIZE}
    expected["mse"] = masked_error(scores, labels).value.item()
    assert validate(tmp_path / "1") == pytest.approx(expected, rel=1e-6)
    for ranks in (2, 3):
        assert on_ranks(ranks, validate, tmp_path / str(ranks))[0] == pytest.approx(expected, rel=1e-6)


def test_training_values_are_weighted_in_the_history(tmp_path: Path) -> None:
    def step(model: Any, batch: Batch, step: Any) -> Any:
        loss, count = loss_of(model(batch[0]), batch[1])
        step.log("labels", Sum(count))
        step.log("share", count / batch[1].numel(), weight=batch[1].numel())
        return {"loss": Weighted(loss, count), "nll": Weighted(loss, count)}

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    row = Runner(model, tmp_path, loader(), max_epochs=1, training_step=step, optim_wrapper=optimizer).train()[0]
    batches = [batch for part in rounds(1) for batch in part][: -(-SIZE // BATCH)]
    labels = torch.cat([labels.flatten() for _, labels in batches])
    loss, count = loss_of(torch.cat([model(tokens).flatten(0, 1) for tokens, _ in batches]), labels)
    assert row["loss"] == pytest.approx(loss.item())
    assert row["nll"] == pytest.approx(loss.item())
    assert row["labels"] == count
    assert row["share"] == pytest.approx(count.item() / labels.numel())


def test_losses_with_different_weights_have_no_total(tmp_path: Path) -> None:
    def step(model: Any, batch: Batch) -> Any:
        loss, _ = loss_of(model(batch[0]), batch[1])
        return {"loss_a": Weighted(loss, 2), "loss_b": Weighted(loss, 3)}

    model = network()
    runner = Runner(
        model,
        tmp_path,
        loader(),
        max_epochs=1,
        training_step=step,
        optim_wrapper=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    with pytest.raises(ArgumentError, match="different weights"):
        runner.train()


def test_each_of_several_optimizers_has_its_own_weights(tmp_path: Path) -> None:
    def step(model: Any, batch: Batch, optimizers: Any) -> None:
        for name in ("first", "second"):
            optimizers[name].update_params(loss_of(model(batch[0]), batch[1]))

    networks: Any = network(), network()
    model, alone = networks
    sgd = {
        name: torch.optim.SGD(part.parameters(), lr=0.5) for name, part in zip(("first", "second"), model, strict=True)
    }
    wrappers = {name: {"optimizer": optimizer, "accumulative_counts": 4} for name, optimizer in sgd.items()}
    Runner(model, tmp_path, loader(), max_epochs=2, training_step=step, optim_wrapper=wrappers).train()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.5) for part in alone]
    for batches in rounds(4):
        total: Any = sum((labels != IGNORED).sum() for _, labels in batches)
        for number, (tokens, labels) in enumerate(batches, 1):
            for part, optimizer in zip(alone, optimizers, strict=True):
                loss = F.cross_entropy(alone(tokens).movedim(-1, 1), labels, ignore_index=IGNORED, reduction="sum")
                (loss / total).backward(inputs=list(part.parameters()))
                if number == len(batches):
                    optimizer.step()
                    optimizer.zero_grad()
    assert difference(list(model.parameters()), list(alone.parameters())) < 1e-12


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_scales_weighted_losses(tmp_path: Path, dtype: str) -> None:
    model, plain = network().float(), network().float()
    losses: list[Any] = [loss_of, lambda *args: loss_of(*args).value]
    for number, (trained, loss) in enumerate(zip((model, plain), losses, strict=True)):
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.5)
        wrapper = {"type": "AmpOptimWrapper", "optimizer": optimizer, "dtype": dtype, "accumulative_counts": 2}
        data = [batch for batch in loader() if batch[0].shape[1] == 11 and (batch[1] != IGNORED).any()] * 2
        Runner(trained, tmp_path / str(number), data[:1] * 4, max_epochs=1, loss=loss, optim_wrapper=wrapper).train()
    # Batches with the same weight, so that both means are equal.
    assert difference(list(model.parameters()), list(plain.parameters())) < 1e-4
