import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from footplate import BaseModel, Hook, Runner
from footplate.errors import DataError
from tests.support import ToyModel, Witness, loader, settings, weights

VAL = ["before_val", "before_val_epoch", *["before_val_iter", "after_val_iter"] * 2, "after_val_epoch", "after_val"]
TEST = [each.replace("val", "test") for each in VAL]
ITER = ["before_train_iter", "after_train_iter"]


def trained(tmp_path: Path, **changes: Any) -> tuple[Runner, Witness]:
    witness = Witness()
    default_hooks = {"logger": None, "checkpoint": None, **changes.pop("default_hooks", {})}
    runner = Runner(**{**settings(tmp_path), "custom_hooks": [witness], "default_hooks": default_hooks, **changes})
    runner.train()
    return runner, witness


def test_event_order_of_epoch_based_training(tmp_path: Path) -> None:
    checkpoint = {"checkpoint": {"interval": 1}}
    runner, witness = trained(tmp_path, train_cfg={"by_epoch": True, "max_epochs": 2}, default_hooks=checkpoint)
    saved_and_validated = ["before_save_checkpoint", *VAL, "after_validation"]
    epoch = ["before_train_epoch", *ITER * 4, "after_train_epoch", *saved_and_validated]
    assert [name for name, _, _ in witness.seen] == [
        *["before_run", "before_train", *epoch, *epoch, "after_train", "before_save_checkpoint", "after_run"]
    ]
    assert witness.when("before_train_iter") == witness.when("after_train_iter")
    assert witness.when("after_train_iter") == [(iteration, iteration // 4) for iteration in range(8)]
    assert witness.when("after_train_epoch") == [(4, 0), (8, 1)]
    assert witness.when("before_save_checkpoint") == [(4, 1), (8, 2), (8, 2)]
    assert witness.when("before_val") == witness.when("after_val_epoch") == [(4, 1), (8, 2)]
    assert witness.when("after_train") == witness.when("after_run") == [(8, 2)]
    witness.seen.clear()
    runner.test()
    assert [name for name, _, _ in witness.seen] == ["before_run", *TEST, "after_run"]


@pytest.mark.parametrize(
    ("by_epoch", "sampler"), [(True, "DefaultSampler"), (False, "DefaultSampler"), (False, "InfiniteSampler")]
)
def test_batch_is_freed_before_the_next_is_read(tmp_path: Path, by_epoch: bool, sampler: str) -> None:
    """Its memory can be reused, and freeing it does not delay training after a request to workers."""
    given: list[weakref.ref[Tensor]] = []

    def noting(samples: list[Any]) -> Any:
        assert all(each() is None for each in given)
        batch = default_collate(samples)
        given.append(weakref.ref(batch["inputs"]))
        return batch

    counted = {"max_epochs": 2} if by_epoch else {"max_iters": 8}
    of_loader = {**loader(collate_fn=noting), "sampler": {"type": sampler, "shuffle": True}}
    trained(tmp_path, train_cfg={"by_epoch": by_epoch, **counted}, train_dataloader=of_loader)
    assert len(given) == 8


def test_event_order_of_iteration_based_training(tmp_path: Path) -> None:
    checkpoint = {"checkpoint": {"interval": 3, "by_epoch": False}}
    train_cfg = {"by_epoch": False, "max_iters": 6, "val_interval": 3}
    _, witness = trained(tmp_path, train_cfg=train_cfg, default_hooks=checkpoint)
    round_of_three = [*ITER * 3, "before_save_checkpoint", *VAL, "after_validation"]
    assert [name for name, _, _ in witness.seen] == [
        *["before_run", "before_train", "before_train_epoch", *round_of_three, *round_of_three],
        *["after_train_epoch", "after_train", "before_save_checkpoint", "after_run"],
    ]
    assert [at for at, _ in witness.when("after_train_iter")] == list(range(6))
    assert [at for at, _ in witness.when("before_save_checkpoint")] == [3, 6, 6]
    assert [at for at, _ in witness.when("before_val")] == [3, 6]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_model_is_in_train_or_eval_mode(tmp_path: Path, by_epoch: bool) -> None:
    class Modes(Hook):
        def __init__(self) -> None:
            self.seen: list[tuple[str, bool, bool]] = []

        def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
            self.seen.append((mode, runner.model.training, torch.is_grad_enabled()))

    modes = Modes()
    train_cfg = settings(tmp_path, by_epoch=by_epoch)["train_cfg"]
    trained(tmp_path, train_cfg=train_cfg, custom_hooks=[modes])
    one = [*[("train", True, True)] * 4, *[("val", False, False)] * 2]
    assert modes.seen == one * 3


class Echo(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Any] = []

    def forward(self, first: Tensor, second: Tensor | None = None, mode: str = "tensor") -> Any:
        self.seen.append((mode, first.tolist(), None if second is None else second.tolist()))
        return {"loss": self.weight * first.sum()} if mode == "loss" else [0]


@pytest.mark.parametrize(
    "batch",
    [
        [torch.tensor([1.0]), torch.tensor([2.0])],
        {"second": torch.tensor([2.0]), "first": torch.tensor([1.0])},
    ],
)
def test_batch_is_passed_by_position_or_keyword(tmp_path: Path, batch: Any) -> None:
    model = Echo()
    evaluator = {"type": "Told", "values": {"score": [1.0, 2.0]}}
    runner, _ = trained(
        tmp_path,
        model=model,
        train_dataloader=[batch],
        val_dataloader=[batch],
        test_dataloader=[batch],
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        train_cfg={"max_epochs": 1},
    )
    runner.test()
    assert model.seen == [(mode, [1.0], [2.0]) for mode in ("loss", "predict", "predict")]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_hook_stops_training(tmp_path: Path, by_epoch: bool) -> None:
    class Stop(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.train_loop.stop_training = runner.iter == 5

        def after_train_epoch(self, runner: Any) -> None:
            runner.train_loop.stop_training = True

    witness = Witness()
    train_cfg = settings(tmp_path, by_epoch=by_epoch)["train_cfg"]
    runner, _ = trained(tmp_path, train_cfg=train_cfg, custom_hooks=[Stop(), witness])
    assert runner.iter == (4 if by_epoch else 6)
    assert [name for name, _, _ in witness.seen[-2:]] == ["after_train", "after_run"]


@pytest.mark.parametrize(
    ("is_late", "request_at", "val_interval", "expected"),
    [
        (False, 4, 1, [(4, 1), (8, 2), (12, 3)]),  # at the end of an epoch, which is complete before the validation
        (True, 2, 1, [(2, 0)]),
        (False, 4, 2, [(4, 1), (8, 2), (12, 3)]),
        (True, 4, 2, [(4, 1)]),
    ],
)
def test_requested_validation_is_not_repeated_on_the_same_weights(
    tmp_path: Path, is_late: bool, request_at: int, val_interval: int, expected: list[tuple[int, int]]
) -> None:
    validated: list[tuple[int, int]] = []

    def train(resume: bool = False) -> None:
        checkpoint = {"by_epoch": False, "interval": request_at, "save_last": False}
        cfg = settings(tmp_path, default_hooks={"checkpoint": checkpoint}, resume=resume)
        cfg["train_cfg"]["val_interval"] = val_interval
        runner = Runner(**cfg)

        def request(runner: Runner) -> None:
            if runner.iter + 1 == request_at:
                runner.train_loop.validation_requested = True
                runner.requests.local.time_limit = is_late

        runner.on("after_train_iter", request)
        runner.on("before_val", lambda runner: validated.append((runner.iter, runner.epoch)))
        runner.train()

    train()
    assert validated == expected
    if not is_late:
        validated.clear()
        save = tmp_path / "last_checkpoint"
        save.write_text(str(tmp_path / "iter_4.pth"))  # saved when the validation was still outstanding
        train(resume=True)
        assert validated == expected


def test_epoch_counts_passes_over_the_loader(tmp_path: Path) -> None:
    saves: dict[str, Any] = {"checkpoint": {"by_epoch": False, "interval": 4}}
    train_cfg = {"by_epoch": False, "max_iters": 9, "val_interval": 4}
    runner, witness = trained(tmp_path, train_cfg=train_cfg, default_hooks=saves)
    assert [epoch for _, epoch in witness.when("before_train_iter")] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert (runner.epoch, runner.train_loop.completed.epoch, runner.message_hub.get_info("epoch")) == (2, 2, 2)
    completed = [(4, 1), (8, 2), (9, 2)]
    assert [(row["iter"], row["epoch"]) for row in runner.history] == completed
    for iteration, epoch in completed:
        other = Runner(**settings(tmp_path))
        other.load_checkpoint(str(tmp_path / f"iter_{iteration}.pth"))
        assert (other.iter, other.epoch) == (iteration, epoch)


class Split(IterableDataset[Any]):
    """20 samples, which two workers share: 10 each, so that they yield six batches of at most 4, not five."""

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, 20, step):
            yield {"inputs": torch.full((4,), float(index)), "labels": index % 2}


class Fewer(list[Any]):
    def __len__(self) -> int:
        return 7


@pytest.mark.parametrize("kind", ["more", "fewer"])
def test_an_epoch_is_what_the_loader_yields(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def train(folder: str, **changes: Any) -> tuple[list[float], Any]:
        loader: Any = DataLoader(Split(), 4, num_workers=2)
        samples: list[float] = []
        changes["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 1}, "logger": None}
        changes["model"] = {"type": "ToyModel", "dropout": 0.3}
        data = loader if kind == "more" else Fewer(loader)
        runner = Runner(**settings(tmp_path / folder, train_dataloader=data, **changes))
        runner.on("before_train_iter", lambda _, data_batch: samples.extend(data_batch["inputs"][:, 0].tolist()))
        runner.train()
        return samples, runner

    whole, runner = train("whole")
    assert (runner.iter, runner.epoch) == (18, 3)
    assert all(sorted(whole[start : start + 20]) == list(range(20)) for start in (0, 20, 40))
    length = 5 if kind == "more" else 7
    assert caplog.text.count(f"Epoch 1 had 6 batches, but len(dataloader) is {length}.") == 1
    assert caplog.text.count("len(dataloader) is") == 1
    for iteration, done in ((6, 20), (8, 28), (12, 40)):
        path = str(tmp_path / f"whole/iter_{iteration}.pth")
        resumed, other = train(str(iteration), load_from=path, resume=True)
        assert resumed == whole[done:]
        assert weights(other) == weights(runner)


def empty_loader() -> Any:
    class Empty:
        drop_last = True

        def __iter__(self) -> Any:
            return iter(())

        def __len__(self) -> int:
            return 0

    return Empty()


def test_loader_without_batches_raises(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"one batch per process \(dataset size 3, batch size 4\), and drop_last drops incomplete batches",
    ):
        trained(tmp_path, train_dataloader=loader(3, drop_last=True), param_scheduler=None)
    for by_epoch in (True, False):
        with pytest.raises(DataError, match="the training loader has no batches") as caught:
            Runner(**settings(tmp_path, by_epoch=by_epoch, train_dataloader=empty_loader())).train()
        assert caught.value.key == "train_dataloader"


def test_fp16_applies_to_predictions(tmp_path: Path) -> None:
    kinds: list[torch.dtype] = []

    class Kinds(ToyModel):
        def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
            kinds.append(self.layers(inputs).dtype)
            return super().forward(inputs, labels, mode)

    model: Any = Kinds()
    runner = Runner(**settings(tmp_path, model=model, val_cfg={"fp16": True}))
    runner.val()
    runner.test()
    assert kinds == [torch.bfloat16] * 2 + [torch.float32] * 2
