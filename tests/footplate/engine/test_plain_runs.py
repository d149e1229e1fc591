"""Tests of runs of plain torch modules: no BaseModel, no config."""

import enum
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, lr_scheduler
from torch.utils.data import DataLoader, Dataset, TensorDataset
from typing_extensions import assert_type

from footplate import Config, Hook, Runner, Weighted
from footplate.checkpoint import load_checkpoint
from footplate.config import read_recorded
from footplate.engine import EVENTS, History
from footplate.engine.values.events import EventName
from footplate.errors import ArgumentError, DataError, FootplateError, UnknownNameError
from footplate.hooks import EarlyStoppingHook, EMAHook
from footplate.tools.diff import compare, read_either
from footplate.tools.run_facts import describe_run
from footplate.tools.runs import read_run
from tests.support import PointAccuracy, settings

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
CROSS_ENTROPY = nn.CrossEntropyLoss()
TOO_FEW: DataLoader[Any] = DataLoader(TensorDataset(X[:2], Y[:2]), batch_size=4, drop_last=True)


def loader(size: int = 40, *, shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X[:size], Y[:size]), batch_size=8, shuffle=shuffle)


def network(dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 2))


def accuracy(scores: Tensor, batch: Any) -> Any:
    return (scores.argmax(1) == batch[1]).float().mean()


def runner(work_dir: Path, model: nn.Module | None = None, **changes: Any) -> Runner:
    model = network() if model is None else model
    optimizer = changes.pop("optim_wrapper", None) or SGD(model.parameters(), lr=0.1, momentum=0.9)
    given = {"train_dataloader": loader(), "max_epochs": 2, "loss": CROSS_ENTROPY, "randomness": {"seed": 5}}
    if changes.get("training_step") or not isinstance(model, nn.Sequential):
        del given["loss"]
    if "max_iters" in changes or "train_cfg" in changes:
        del given["max_epochs"]
    return Runner(model, str(work_dir), **{**given, **changes}, optim_wrapper=optimizer, log_level="WARNING")


def weights(model: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def test_runner_trains_as_if_it_were_the_only_one_in_the_process(tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {"a": [], "alone": []}

    def build(name: str, **changes: Any) -> Runner:
        def step(model: nn.Module, batch: Any, step: Any) -> Any:
            seen.setdefault(name, []).append(step.epoch)
            return CROSS_ENTROPY(model(batch[0]), batch[1])

        return runner(tmp_path / name, training_step=step, **changes)

    alone = build("alone")
    alone.train()
    first, second = build("a"), build("b", randomness={"seed": 7}, max_epochs=1)
    second.train()
    first.train()
    assert torch.equal(weights(first.model), weights(alone.model))
    assert seen["a"] == seen["alone"] == [0] * 5 + [1] * 5


def test_hook_may_use_another_runner(tmp_path: Path) -> None:
    run = runner(
        tmp_path,
        training_step=lambda model, batch, step: CROSS_ENTROPY(model(batch[0]), batch[1]) / (step.iter + 1),
        optim_wrapper={"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}, "clip_grad": {"max_norm": 1}},
    )

    def validate(_: Any) -> None:
        runner(tmp_path / "other", val_dataloader=loader(16)).val()

    run.on("after_train_epoch", validate)
    run.train()
    assert run.message_hub.scalar("train/grad_norm").num_added == 10


# Iteration 7 is in the middle of a round. With "take", a resumed run fast-forwards its own schedule.
@pytest.mark.parametrize(("stop", "resume_settings"), [(None, "keep"), (7, "keep"), (7, "take"), (8, "take")])
def test_schedule_counts_the_steps_of_an_optimizer_that_accumulates(
    tmp_path: Path, stop: int | None, resume_settings: str
) -> None:
    rates: list[float] = []

    def train(iters: int, **changes: Any) -> None:
        model = network()
        optimizer = SGD(model.parameters(), lr=1.0)
        schedule = lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        run = runner(
            tmp_path,
            model,
            max_iters=iters,
            optim_wrapper={"optimizer": optimizer, "accumulative_counts": 4},
            param_scheduler={"scheduler": schedule, "by": "step"},
            **changes,
        )
        run.on("before_train_iter", lambda runner: rates.append(optimizer.param_groups[0]["lr"]))
        if stop and not changes:
            run.on("after_train_iter", lambda it: setattr(it.train_loop, "stop_training", it.iter + 1 == stop))
        run.train()

    train(10)
    if stop:
        train(10, resume=True, resume_settings=resume_settings)
    assert rates == [1.0] * 4 + [0.5] * 4 + [0.25] * 2


def test_averages_and_early_stopping_have_defaults_for_plain_modules(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(4, 2)
    average, stopping = EMAHook(), EarlyStoppingHook(monitor="accuracy", rule="greater", patience=2)
    values = iter([0.5, 0.5, 0.52, 0.53, 0.53, 0.53])  # the preflight check takes the first one
    run = runner(
        tmp_path,
        nn.Sequential(model),
        max_epochs=9,
        val_dataloader=loader(8),
        val_evaluator={"accuracy": lambda scores, batch: next(values)},
        custom_hooks=[average, stopping],
    )
    before = weights(run.model).clone()
    run.train()
    assert not [text for text in caplog.messages if "Hook" in text]  # neither warns
    assert run.epoch == 5  # an improvement of 0.01 counts
    assert average.average is not None
    last, mean = weights(run.model), weights(average.average)
    assert (mean - before).norm() > 0.3 * (last - before).norm()


def test_step_counts_the_passes_of_an_iteration_based_run(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def train(iters: int, **changes: Any) -> None:
        def step(model: nn.Module, batch: Any, step: Any) -> Any:
            seen.append((step.iter, step.epoch))
            return CROSS_ENTROPY(model(batch[0]), batch[1])

        runner(tmp_path, training_step=step, max_iters=iters, **changes).train()

    train(7)
    train(12, resume=True)
    assert seen == [(iteration, iteration // 5) for iteration in range(12)]


def test_validation_after_training_does_not_change_the_records(tmp_path: Path) -> None:
    run = runner(tmp_path, val_dataloader=loader(16, shuffle=False), default_hooks={"checkpoint": {"interval": 1}})
    history = run.train()
    scalars = next(tmp_path.glob("*/vis_data/scalars.json"))
    rows, lines = [dict(row) for row in history], scalars.read_text()
    run.load_checkpoint(str(tmp_path / "epoch_1.pth"))
    assert run.val()["loss"] == rows[0]["val/loss"] != rows[1]["val/loss"]
    assert (list(history), scalars.read_text()) == (rows, lines)


class Own(nn.Module):
    """Returns a loss in one of several forms."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(4, 2), form

    def forward(self, inputs: Tensor, labels: Tensor) -> Any:
        scores = self.layer(inputs)
        loss = nn.functional.cross_entropy(scores, labels)
        return {
            "tensor": loss,
            "dict": {"loss_a": loss / 2, "loss_b": [loss / 4] * 2, "scores": scores, "count": 8, "loss_weight": 0.5},
            "total": {
                "loss": loss,
                "loss_part": loss.detach() / 2,
                "count": torch.tensor(8),
                "loss_mask": [labels > 0],
            },
            "object": SimpleNamespace(loss=loss, logits=scores),
            "scores": scores,
        }[self.form]


@pytest.mark.parametrize("form", ["tensor", "dict", "total", "object"])
def test_forms_of_a_loss_train_alike(tmp_path: Path, form: str) -> None:
    torch.manual_seed(0)
    model = Own(form)
    torch.manual_seed(0)
    other = Own("tensor")
    history = runner(tmp_path / "a", model).train()
    runner(tmp_path / "b", other).train()
    assert torch.allclose(weights(model), weights(other), atol=1e-6)
    logged = {"dict": {"loss_a", "loss_b", "count"}, "total": {"loss_part", "count"}}.get(form, set())
    assert set(history[-1]) == {"epoch", "iter", "lr", "loss", *logged}


def test_mask_that_forward_takes_is_an_input(tmp_path: Path) -> None:
    class Masked(nn.Linear):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x * mask)

    batches = [{"x": X[:8], "mask": torch.zeros(8, 1), "label": Y[:8]}]
    made = runner(tmp_path, Masked(4, 2), train_dataloader=batches, loss=CROSS_ENTROPY)
    assert made.train()[-1]["loss"] < 1
    assert len(made.predict(iter([{"x": X[:8], "mask": torch.zeros(8, 1)}]))) == 1


def test_a_training_step_is_only_called_in_training(tmp_path: Path) -> None:
    modes: list[bool] = []

    def step(model: nn.Module, batch: Any) -> Any:
        modes.append(model.training)
        return CROSS_ENTROPY(model(batch[0]), batch[1])

    def predict(model: nn.Module, batch: Any) -> Any:
        return model(batch[0])

    steps: Any = {"training_step": step, "validation_step": predict, "val_dataloader": loader(16)}
    history = runner(tmp_path / "a", val_evaluator=accuracy, **steps).train()
    assert modes == [True] * history[-1]["iter"]
    assert set(history[0]) == {"epoch", "iter", "lr", "loss", "val/accuracy"}
    assert runner(tmp_path / "b", val_evaluator=[], **steps).val() == {}
    assert runner(tmp_path / "c", loss=CROSS_ENTROPY, **steps).val().keys() == {"loss"}


@pytest.mark.parametrize(
    ("output", "size", "reported"),
    [
        ({"error": 0.5, "loss": 9.0}, 8, {"error"}),
        ({"error": torch.ones(1)}, 8, {"error"}),
        ({"predicted": torch.ones(1)}, 1, set()),
    ],
)
def test_numbers_of_a_validation_step_are_reported_next_to_the_loss(
    tmp_path: Path, output: dict[str, Any], size: int, reported: set[str]
) -> None:
    data: Any = {"val_dataloader": loader(size), "test_dataloader": loader(size)}
    made = runner(tmp_path, Own("tensor"), validation_step=lambda model, batch: output, **data)
    assert made.val().keys() == made.test().keys() == {"loss", *reported}
    assert made.val()["loss"] < 2


def test_a_method_as_a_metric_keeps_its_object(tmp_path: Path) -> None:
    class Trainer:
        seen = 0

        def error(self, scores: Tensor, batch: Any) -> float:
            self.seen += len(scores)
            return 0.5

    trainer = Trainer()
    data: Any = {"val_dataloader": {"day": loader(16), "night": loader(8)}, "test_dataloader": loader(8)}
    made = runner(tmp_path, val_evaluator={"error": trainer.error}, **data)
    assert (made.val()["night/error"], made.test()["error"], trainer.seen) == (0.5, 0.5, 32)


def test_preflight_accepts_predictions_without_a_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps: Any = {"training_step": lambda model, batch: model(batch[0]).mean(), "val_dataloader": loader(16)}
    runner(tmp_path, validation_step=lambda model, batch: None, val_evaluator=[], **steps).train()
    assert not [message for message in caplog.messages if message.startswith("Preflight")]


def test_training_equals_a_plain_loop(tmp_path: Path) -> None:
    data = [(X[start : start + 8], Y[start : start + 8]) for start in range(0, 40, 8)]
    model, other = network(0.0), network(0.0)
    runner(tmp_path, model, train_dataloader=data).train()
    optimizer = SGD(other.parameters(), lr=0.1, momentum=0.9)
    for inputs, labels in data * 2:
        optimizer.zero_grad()
        CROSS_ENTROPY(other(inputs), labels).backward()
        optimizer.step()
    assert torch.equal(weights(model), weights(other))


def test_validation_defaults_to_the_loss_and_averages_over_samples(tmp_path: Path) -> None:
    made = runner(tmp_path, val_dataloader=loader(12, shuffle=False), test_dataloader=loader(12, shuffle=False))
    history = made.train()
    with torch.no_grad():
        expected = float(CROSS_ENTROPY(made.history.model.eval()(X[:12]), Y[:12]))
    assert history[-1]["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert made.test() == {"loss": pytest.approx(expected, rel=1e-5)}
    assert made.val().keys() == {"loss"}


def test_test_without_training_and_validation(tmp_path: Path) -> None:
    made = Runner(
        network(), tmp_path, test_dataloader=loader(), test_evaluator={"accuracy": accuracy}, loss=CROSS_ENTROPY
    )
    assert made.test().keys() == {"loss", "accuracy"}
    with pytest.raises(ArgumentError, match="the run has no val loop: it needs val_dataloader$"):
        made.val()


def test_several_sets_share_metrics_by_name(tmp_path: Path) -> None:
    sets = {"day": loader(12), "night": loader(16)}
    metrics: Any = {"accuracy": accuracy, "count": lambda scores, batch: len(batch[0])}
    found = runner(tmp_path / "a", val_dataloader=sets, val_evaluator=metrics).val()
    assert found.keys() == {f"{name}/{each}" for name in sets for each in ("loss", "accuracy", "count")}
    by_set = {"day": {"accuracy": accuracy}, "night": accuracy}
    assert "night/accuracy" in runner(tmp_path / "b", val_dataloader=sets, val_evaluator=by_set).val()
    with pytest.raises(ArgumentError, match="unknown key 'nigth' in the evaluators"):
        runner(tmp_path / "c", val_dataloader=sets, val_evaluator={"day": accuracy, "nigth": accuracy}).val()


def test_metrics_of_all_kinds(tmp_path: Path) -> None:
    class Count:
        seen = 0

        def update(self, predictions: Tensor, target: Tensor) -> None:
            self.seen += int((predictions.argmax(1) == target).sum())

        def compute(self) -> Tensor:
            return torch.tensor(self.seen / 12)

        def reset(self) -> None:
            self.seen = 0

    def predict(model: nn.Module, batch: Any) -> Any:
        return list(zip(model(batch[0]).argmax(1), batch[1], strict=True))

    metrics = {"function": accuracy, "object": Count(), "both": lambda scores, batch: {"n": len(batch[0]), "x": 1}}
    made = runner(tmp_path, val_dataloader=loader(12), val_evaluator=metrics)
    row = made.train()[-1]
    assert row["val/function"] == pytest.approx(row["val/object"])
    assert row["val/both/n"] == pytest.approx((8 * 8 + 4 * 4) / 12)
    own = runner(
        tmp_path / "b", made.history.model, validation_step=predict, val_dataloader=loader(12),
        val_evaluator=PointAccuracy(),
    )  # fmt: skip
    assert own.val()["accuracy"] == pytest.approx(100 * row["val/function"])


@pytest.mark.parametrize(
    ("make", "wrapper"),
    [
        (lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=21), {}),
        (lambda optimizer: {"scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=9.0)}, {}),
        (
            lambda optimizer: {"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.9), "by_epoch": False},
            {"type": "AmpOptimWrapper", "dtype": "bfloat16", "accumulative_counts": 2},
        ),
    ],
)
def test_resumed_run_is_exact(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Any, wrapper: dict[str, Any]
) -> None:
    def run(epochs: int, folder: str, **changes: Any) -> History:
        model = network()
        optimizer = Adam(model.parameters(), lr=0.1)
        history: History = runner(
            tmp_path / folder,
            model,
            max_epochs=epochs,
            optim_wrapper={"optimizer": optimizer, **wrapper} if wrapper else optimizer,
            param_scheduler=make(optimizer),
            val_dataloader=loader(16),
            custom_hooks=[{"type": "EMAHook", "momentum": 0.1}],
            default_hooks={"checkpoint": {"interval": 1}},
            **changes,
        ).train()
        return history

    whole = run(4, "whole")
    run(2, "parts")
    rest = run(4, "parts", resume=True)
    assert torch.equal(weights(whole.model), weights(rest.model))
    assert whole.rows == rest.rows
    assert len({row["lr"] for row in whole}) > 1
    assert "Ignoring the new lr" not in caplog.text


class Noisy(Dataset[Any]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index] + torch.randn(4) + random.random() + float(np.random.rand()), Y[index]


class OwnLoader(DataLoader[Any]):
    """A subclass, which is not converted."""


@pytest.mark.parametrize(("kind", "workers"), [(DataLoader, 0), (DataLoader, 2), (OwnLoader, 0)])
def test_noise_of_a_torch_loader_resumes_exactly(tmp_path: Path, kind: Any, workers: int) -> None:
    class KilledError(Exception):
        pass

    def run(folder: str, last: int = -1, **changes: Any) -> History:
        data = kind(Noisy(), batch_size=8, shuffle=True, num_workers=workers)
        changes |= {"default_hooks": {"checkpoint": {"interval": 2, "by_epoch": False}}}
        made = runner(tmp_path / folder, train_dataloader=data, val_dataloader=data, **changes)

        def kill(runner: Runner) -> None:
            if runner.iter == last:
                raise KilledError

        made.on("after_train_iter", kill)
        history: History = made.train()
        return history

    whole = run("whole")
    with pytest.raises(KilledError):
        run("killed", last=7)  # in the second epoch, after a validation
    resumed = run("killed", resume=True)
    assert resumed.rows == whole.rows
    assert torch.equal(weights(resumed.model), weights(whole.model))


class GAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.generator, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)

    def optimizers(self, **settings: Any) -> dict[str, Any]:
        made = {name: Adam(getattr(self, name).parameters(), lr=0.01) for name in ("generator", "critic")}
        return {name: {"optimizer": each, **settings} if settings else each for name, each in made.items()}


def gan_losses(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    fakes = model.generator(torch.randn_like(images))
    critic = (model.critic(images) - 1).square().mean() + model.critic(fakes.detach()).square().mean()
    return critic, (model.critic(fakes) - 1).square().mean()


def train_gan(model: Any, batch: Any, optimizers: Any, step: Any) -> dict[str, Tensor]:
    critic, generator = gan_losses(model, batch[0])
    optimizers["generator"].update_params(generator)  # its gradients must not reach the critic
    optimizers["critic"].update_params(critic)
    step.log("progress", step.iter / step.max_iters)
    return {"critic_loss": critic, "generator_loss": generator}


@pytest.mark.parametrize("settings", [{}, {"accumulative_counts": 3, "clip_grad": {"max_norm": 1.0}}])
def test_several_optimizers_of_a_plain_module(tmp_path: Path, settings: dict[str, Any]) -> None:
    def run(folder: str, *, stops: bool = False, **changes: Any) -> History:
        model = GAN()
        made = runner(
            tmp_path / folder, model, optim_wrapper=model.optimizers(**settings), training_step=train_gan, **changes
        )
        made.on("after_train_epoch", lambda runner: setattr(runner.train_loop, "stop_training", stops))
        history: History = made.train()
        return history

    whole = run("whole")
    assert len(run("parts", stops=True)) == 1
    assert torch.equal(weights(run("parts", resume=True).model), weights(whole.model))
    assert [round(row["progress"], 2) for row in whole] == [0.2, 0.7]
    assert ("critic.grad_norm" in whole[0]) == bool(settings)


def test_optimizer_whose_parameters_are_frozen_for_now_does_nothing(tmp_path: Path) -> None:
    model, start = GAN(), GAN()
    hooks = [{"type": "FreezeHook", "patterns": "generator", "until_epoch": 1}]
    settings: dict[str, Any] = {"training_step": train_gan, "optim_wrapper": model.optimizers()}
    made = runner(tmp_path, model, custom_hooks=hooks, **settings)
    before, same = weights(start.generator), []
    made.on("after_train_epoch", lambda runner: same.append(torch.equal(weights(model.generator), before)))
    made.train()
    assert same == [True, False]


def test_isolated_losses_equal_a_plain_loop(tmp_path: Path) -> None:
    data = DataLoader(TensorDataset(X), batch_size=8)

    def train(model: Any, batch: Any, optimizers: Any) -> None:
        for name, loss in zip(("critic", "generator"), gan_losses(model, batch[0]), strict=True):
            optimizers[name].zero_grad()
            torch.autograd.backward(loss, inputs=list(getattr(model, name).parameters()))
        for each in optimizers.values():
            each.step()

    def update(model: Any, batch: Any, optimizers: Any) -> float:
        for name, loss in zip(("critic", "generator"), gan_losses(model, batch[0]), strict=True):
            optimizers[name].backward(loss)
        for each in optimizers.values():
            each.step()
            each.zero_grad()
        return 0.5

    results = []
    for number, step in enumerate((train, update)):
        model = GAN()
        changes = {"train_dataloader": data, "training_step": step, "optim_wrapper": model.optimizers()}
        results.append(weights(runner(tmp_path / str(number), model, **changes).train().model))
    assert torch.equal(*results)


FLOAT16 = {"type": "AmpOptimWrapper", "dtype": "float16"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optim_wrapper": None}, r"optim_wrapper=\{name: optimizer\} if training_step"),
        (
            {"training_step": lambda model, batch: gan_losses(model, batch[0])[0]},
            r'optimizers\["generator"\].update_params',
        ),
        (
            {"training_step": lambda model, batch, optimizers: (1, 2)},
            "several numbers from training_step are ambiguous",
        ),
    ],
)
def test_first_attempts_with_several_optimizers(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    model = GAN()
    if changes.get("optim_wrapper") is FLOAT16:
        changes = {**changes, "optim_wrapper": {**FLOAT16, "optimizer": SGD(model.parameters(), lr=0.1)}}
    given = {"train_dataloader": loader(), "training_step": train_gan, "optim_wrapper": model.optimizers(), **changes}
    with pytest.raises(FootplateError, match=words):
        Runner(model, str(tmp_path), max_epochs=1, log_level="ERROR", **given).train()


def test_module_with_own_train_step_needs_no_val_step(tmp_path: Path) -> None:
    class Own(GAN):
        def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
            critic, _ = gan_losses(self, data[0])
            optim_wrapper["critic"].update_params(critic)
            return {"loss": critic.detach()}

    model = Own()
    settings: dict[str, Any] = {"max_epochs": 1, "log_level": "ERROR", "optim_wrapper": model.optimizers()}
    assert Runner(model, str(tmp_path / "a"), loader(), **settings).train() is model
    with pytest.raises(FootplateError, match=r"define val_step\(data\)"):
        Runner(model, str(tmp_path / "b"), loader(), loader(), val_evaluator=PointAccuracy(), **settings)


def test_functions_as_hooks(tmp_path: Path) -> None:
    made, seen = runner(tmp_path, val_dataloader=loader(16)), []
    made.on("after_val_epoch", lambda runner, metrics: seen.append(round(metrics["loss"], 2)))

    def note(runner: Runner) -> None:
        seen.append(runner.epoch)

    assert made.on("after_train_epoch")(note) is note

    for event, function, words in (
        ("after_train_epok", note, "did you mean 'after_train_epoch'"),
        ("after_train_epoch", lambda: None, r"expected: after_train_epoch\(runner\)"),
        ("after_val_epoch", lambda runner, values: None, "Arguments after the first are passed by name"),
    ):
        with pytest.raises(ArgumentError, match=words):
            made.on(event, function)  # type: ignore[call-overload]
    history = made.train()
    assert seen == [0, round(history[0]["val/loss"], 2), 1, round(history[1]["val/loss"], 2)]


def test_history_is_a_table(tmp_path: Path) -> None:
    history = runner(tmp_path, val_dataloader=loader(16), max_epochs=50).train()
    lines = str(history).splitlines()
    assert lines[0].split() == ["epoch", "iter", "lr", "loss", "val/loss"]
    assert len(lines) == 42


def test_config_takes_overrides(tmp_path: Path) -> None:
    cfg = Config(settings("unused"))
    made = Runner.from_cfg(
        cfg, work_dir=str(tmp_path), train_dataloader={"batch_size": 8}, max_epochs=1, log_level="WARNING"
    )
    made.train()
    assert (made.work_dir, made.iter, made.max_epochs) == (str(tmp_path), 2, 1)
    assert cfg.work_dir == "unused"
    assert made.cfg.train_dataloader.batch_size == 8
    with pytest.raises(ArgumentError, match="did you mean 'train_dataloader'"):
        Runner.from_cfg(cfg, train_dataloder={})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": None}, "the forward method of 'Sequential' does not accept the batch"),
        (
            {"training_step": lambda model, batch: None},
            r"`loss` in their names[^\0]* missing `return`\. .* return Weighted\(loss, 0\)",
        ),
        ({"train_dataloader": [X[:8]]}, "Pass training_step=.*instead of `loss`"),
        (
            {"optim_wrapper": SGD(network().parameters(), lr=0.1)},
            "the optimizer does not contain any of the model's param",
        ),
        ({"val_dataloader": loader(), "val_evaluator": lambda scores, batch: 1}, "needs a name"),
        (
            {"val_dataloader": loader(), "val_evaluator": {"loss": accuracy}},
            "a metric has the same name as the loss 'loss'",
        ),
        ({"max_iters": 3, "max_epochs": 3}, "cannot both be set"),
        ({"train_dataloader": (each for each in [(X[:8], Y[:8])])}, "set max_iters instead of max_epochs"),
    ],
)
def test_bad_input_is_a_clear_error(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FootplateError, match=words) as caught:
        runner(tmp_path, **changes).train()
    assert len(str(caught.value).splitlines()) <= 5


class Quality:
    """A metric with a mistake in `update`."""

    def reset(self) -> None: ...

    def update(self, predictions: Tensor, target: Tensor) -> None:
        raise KeyError("labels")

    def compute(self) -> float:
        return 0.0


class OneArgument(Quality):
    def update(self, predictions: Tensor) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training_step": lambda model, batch: model(batch[0]).sum()}, "val_evaluator"),
        ({"loss": lambda scores: scores.sum()}, "loss"),
        ({"work_dir": __file__}, "work_dir"),
        ({"val_evaluator": {"loss": accuracy}}, "val_evaluator"),
        ({"val_dataloader": loader(0, shuffle=False)}, "val_dataloader"),
        ({"val_dataloader": {"day": loader(), "night": TOO_FEW}}, "val_dataloader.night.drop_last"),
        ({"default_hooks": {"checkpoint": {"out_dir": f"{__file__}/x"}}}, "default_hooks.checkpoint.out_dir"),
        ({"default_hooks": {"stop": {"type": "EarlyStoppingHook", "monitor": ["acc"]}}}, "default_hooks.stop.monitor"),
    ],
)
def test_mistakes_are_reported_before_the_first_step(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    class Iterations(Hook):
        done = 0

        def before_train_iter(self, runner: Runner) -> None:  # type: ignore[override]
            self.done += 1

    hook = Iterations()
    given = {"work_dir": tmp_path, "val_dataloader": loader(), "val_evaluator": [accuracy], "custom_hooks": [hook]}
    with pytest.raises((ArgumentError, DataError)) as error:
        runner(**{**given, **changes}).train()
    assert error.value.key == key
    assert not hook.done


def test_validation_set_named_test_is_not_the_test_data(tmp_path: Path) -> None:
    made = runner(
        tmp_path, val_dataloader={"test": loader(16)}, test_dataloader=loader(16), val_evaluator={"q": accuracy}
    )
    made.train()
    made.test()
    series = {(each.mode, each.name): len(each.points) for each in read_run(tmp_path).series if each.mode != "train"}
    assert series == {("val", "test/loss"): 2, ("val", "test/q"): 2, ("test", "test/loss"): 1, ("test", "test/q"): 1}
    assert {*describe_run(read_run(tmp_path), None)["metrics"]} == {
        "val/test/loss",
        "val/test/q",
        "test/loss",
        "test/q",
    }


def test_mistakes_in_a_metric_name_the_metric(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`update` of the metric 'q' must take \(predictions, target\)") as caught:
        runner(tmp_path / "1", val_dataloader=loader(), val_evaluator={"q": OneArgument()}).train()
    assert caught.value.key == "val_evaluator.q"
    with pytest.raises(KeyError) as raised:
        runner(tmp_path / "2", val_dataloader=loader(), val_evaluator={"q": Quality()}).train()
    assert "raised by the metric val_evaluator.q" in vars(raised.value)["__notes__"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"max_epochs": 4}, ["epoch_3.pth", "epoch_4.pth"]),
        ({"train_cfg": {"max_iters": 7, "val_interval": 2}}, ["iter_6.pth", "iter_7.pth"]),
        ({"max_epochs": 4, "default_hooks": {"checkpoint": {"max_keep_ckpts": 1}}}, ["epoch_4.pth"]),
        ({"max_epochs": 3, "default_hooks": {"checkpoint": {"interval": 1}}}, ["epoch_2.pth", "epoch_3.pth"]),
        ({"max_epochs": 4, "default_hooks": {"checkpoint": {"interval": -1}}}, ["epoch_4.pth"]),
    ],
)
def test_run_without_checkpoint_interval_saves_regularly(
    tmp_path: Path, changes: dict[str, Any], names: list[str]
) -> None:
    runner(tmp_path, **changes).train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == names


def test_traceback_of_an_error_in_a_training_step_omits_the_engine(tmp_path: Path) -> None:
    def step(model: nn.Module, batch: Any) -> Any:
        raise ValueError("mistake")

    with pytest.raises(ValueError, match="mistake") as caught:
        runner(tmp_path, training_step=step).train()
    assert [each.name for each in caught.traceback][1:] == ["train", "step"]


class Files(TensorDataset):
    def get_data_info(self, index: int) -> dict[str, str]:
        return {"path": f"{index}.png"}


@pytest.mark.parametrize(
    ("label", "value", "length"),
    [(2, 0.0, {"max_epochs": 3}), (0, float("nan"), {"max_iters": 15})],
    ids=["label", "nan"],
)
def test_an_invalid_sample_in_a_training_step_is_located(
    tmp_path: Path, label: int, value: float, length: dict[str, Any]
) -> None:
    inputs, labels = X.clone(), Y.clone()
    inputs[29], labels[29] = value, label
    data = DataLoader(Files(inputs, labels), batch_size=4, shuffle=True)
    with pytest.raises((IndexError, FootplateError)) as caught:
        runner(tmp_path, train_dataloader=data, preflight=False, **length).train()
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    (batch,) = re.findall(r"The batch in iteration \d+ contains samples (.*)\.", text)
    assert ("29 (29.png)" in batch.split(", "), batch.count(".png")) == (True, 4)


@pytest.mark.parametrize("preflight", [True, False])
@pytest.mark.parametrize("in_metric", [True, False], ids=["metric", "step"])
def test_an_invalid_sample_in_validation_is_located(tmp_path: Path, *, preflight: bool, in_metric: bool) -> None:
    def check(_: Any, batch: Any) -> int:
        return 0 if batch[1].max() < 2 else batch[3]

    labels = Y.clone()
    labels[2] = 2
    changes = {"val_evaluator": {"q": check}} if in_metric else {"validation_step": check, "val_evaluator": []}
    data = DataLoader(Files(X, labels), batch_size=4)
    with pytest.raises(IndexError) as caught:
        runner(tmp_path, val_dataloader={"day": data}, preflight=preflight, **changes).train()
    samples = "0 (0.png), 1 (1.png), 2 (2.png), 3 (3.png)"
    assert f"Batch 1 of val_dataloader.day contains samples {samples}." in vars(caught.value)["__notes__"]


def test_config_is_recorded_as_it_was_at_construction(tmp_path: Path) -> None:
    def make(**changes: Any) -> Runner:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100)
        return runner(
            tmp_path, model, optim_wrapper=optimizer, param_scheduler=schedule, test_dataloader=loader(), **changes
        )

    made = make()
    made.train()
    (recorded,) = tmp_path.glob("*/vis_data/config.py")
    before = recorded.read_text()
    made.test()
    assert recorded.read_text() == before  # not the values after training
    make(max_epochs=3, resume=True).train()
    differences = compare(read_recorded(recorded), read_either(str(tmp_path)))
    assert {each.path for each in differences} == {"resume", "train_cfg.max_epochs"}


class Mode(enum.Enum):
    SLOW = 1


def test_hparams_are_recorded_and_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, width in (("a", 1), ("b", 2)):
        strings = {"data": Path("images"), "device": torch.device("cpu"), "dtype": torch.float16, "mode": Mode.SLOW}
        hparams = {"width": width, "rates": (0.1, 1), **strings}
        runner(tmp_path / name, hparams=hparams).train()
    differences = compare(read_either(str(tmp_path / "a")), read_either(str(tmp_path / "b")))
    assert [each.path for each in differences if each.path != "work_dir"] == ["hparams.width"]
    saved = load_checkpoint(tmp_path / "a" / "epoch_2.pth")["meta"]["hparams"]
    strings = {"data": "images", "device": "cpu", "dtype": "torch.float16", "mode": "Mode.SLOW"}
    assert saved == {"width": 1, "rates": [0.1, 1], **strings}
    runner(tmp_path / "a", hparams={"resume": True, "width": 3}, max_epochs=3, resume=True).train()
    assert "Resumed with different hparams (width 3 instead of 1, rates None instead of [0.1, 1]" in caplog.text
    assert "resume True" not in caplog.text


def test_another_opencv_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index, version in enumerate(("5.0 (no IPP; AVX2)", "5.0 (no IPP; AVX2)", "4.11 (no IPP; SSE2)")):
        assert "OpenCV" not in caplog.text
        monkeypatch.setattr("footplate.engine.saving.state.describe_opencv", lambda version=version: version)
        runner(tmp_path, max_epochs=index + 1, resume=True).train()
    assert caplog.text.count("was saved with OpenCV 5.0 (no IPP; AVX2), and this run has OpenCV 4.11 (no IPP; SSE") == 1


@pytest.mark.parametrize("by_epoch", [True, False])
def test_submodule_stays_in_evaluation_mode(tmp_path: Path, by_epoch: bool, caplog: pytest.LogCaptureFixture) -> None:
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(norm.eval(), nn.Sequential(nn.Linear(4, 2), nn.Dropout()))
    modes: list[list[bool]] = []

    def step(module: nn.Module, batch: Any) -> Tensor:
        modes.append([part.training for part in module.modules()])
        return CROSS_ENTROPY(module(batch[0]), batch[1])  # type: ignore[no-any-return]

    cfg = {"by_epoch": by_epoch, "val_interval": 1, **({"max_epochs": 2} if by_epoch else {"max_iters": 3})}
    run = runner(tmp_path, model, training_step=step, val_dataloader=loader(), loss=CROSS_ENTROPY, train_cfg=cfg)
    run.val()
    run.on("after_train_iter", lambda runner: runner.predict([(X, Y)]))
    run.train()
    assert modes == [[True, False, True, True, True]] * (10 if by_epoch else 3)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()
    run.val()
    runner(tmp_path / "next", model, training_step=step).train()
    assert modes[-1] == modes[0]
    assert "frozen weights" not in caplog.text
    model[0].requires_grad_(False).train()
    # As a function for pretrained models leaves it.
    runner(tmp_path / "again", model.eval(), training_step=step).train()
    assert all(modes[-1])
    assert "running statistics of normalization layers with frozen weights (0). To keep them" in caplog.text


def test_predictions_are_made_in_evaluation_mode(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    predictor = runner(tmp_path, model)
    predictions = torch.cat(predictor.predict(loader(shuffle=False)))
    assert model.training
    assert not predictions.requires_grad
    torch.testing.assert_close(predictions, model.eval()(X))
    with pytest.raises(ArgumentError, match="predict needs a data loader"):
        predictor.predict()
    with_test = runner(tmp_path / "test", model, test_dataloader=loader(), test_cfg={"fp16": True})
    assert {output.dtype for output in with_test.predict()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "own", "other"),
    [
        ({"test_cfg": {"fp16": True}}, torch.bfloat16, torch.bfloat16),
        ({"val_dataloader": loader(), "val_cfg": {"fp16": True}}, torch.float32, torch.float32),
        ({"val_dataloader": loader(), "val_cfg": {"fp16": True}, "test_dataloader": None}, None, torch.bfloat16),
    ],
)
def test_predictions_have_the_precision_of_the_test(
    tmp_path: Path, changes: dict[str, Any], own: torch.dtype | None, other: torch.dtype
) -> None:
    test_data = loader()
    predictor = runner(tmp_path, **{"test_dataloader": test_data, **changes})
    for data, expected in ((test_data, own), (loader(), other), ([(X, Y)], other)):
        assert expected is None or predictor.predict(data)[0].dtype == expected


def test_prediction_needs_no_validation_step(tmp_path: Path) -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return CROSS_ENTROPY(model(batch[0]), batch[1])  # type: ignore[no-any-return]

    model = network()
    trained = runner(tmp_path, model, training_step=step)
    for data in ([(X, Y)], [X], [{"input": X, "labels": Y}]):
        assert torch.equal(trained.predict(data)[0], model.eval()(X))
    with pytest.raises(ArgumentError, match=r"does not accept the batch[^\0]*validation_step"):
        trained.predict([(X, X, Y)])


def test_modes_that_users_hardly_intend_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).eval()  # as `from_pretrained` returns it
    model = nn.Sequential(encoder, nn.Linear(4, 2))
    runner(tmp_path / "a", model).train()
    assert "'0' has trainable weights but stays in evaluation mode" in caplog.text
    caplog.clear()
    evaluated = runner(tmp_path / "b", model.eval(), test_dataloader=loader())
    evaluated.test()
    assert not model.training
    runner(tmp_path / "c", model.train()).train()
    assert "evaluation mode" not in caplog.text


class ScoresInDict(nn.Linear):
    """Returns a dict, as many modules do."""

    def forward(self, inputs: Tensor) -> Any:
        return {"logits": super().forward(inputs)}


def compared_with_the_batch(scores: Tensor, target: Any) -> Any:
    return (scores.argmax(1) == target).float().mean()


NOTHING: Any = DataLoader(TensorDataset(X, Y), batch_size=8, collate_fn=lambda samples: None)
METRIC_CALL = (
    "Called with predictions=float32[8, 2], batch=['float32[8, 4]', 'int64[8]']. The batch is the whole batch, not the "
    "target."
)
NO_BATCH = "The batch is None. Check that `collate_fn` returns the batch."
ONE_OPTIMIZER = (
    "The run has a single optimizer, so call optimizer.update_params(loss). For several, pass a dict of optimizers as "
    "optim_wrapper."
)


def step_of(name: str) -> Any:
    def step(model: nn.Module, batch: Any, optimizers: Any) -> None:
        optimizers[name].update_params(CROSS_ENTROPY(model(batch[0]), batch[1]))

    return step


@pytest.mark.parametrize(
    ("model", "changes", "error", "note"),
    [
        (None, {"val_dataloader": loader(), "val_evaluator": compared_with_the_batch}, AttributeError, METRIC_CALL),
        (
            ScoresInDict(4, 2),
            {"loss": CROSS_ENTROPY},
            TypeError,
            "The loss was called with output={'logits': 'float32[8, 2]'}, target=int64[8].",
        ),
        (
            ScoresInDict(4, 2),
            {"loss": CROSS_ENTROPY},
            TypeError,
            "To select an entry, pass loss=lambda output, target: loss(output['logits'], target).",
        ),
        (
            None,
            {"val_dataloader": loader(), "val_evaluator": {"q": Quality()}},
            KeyError,
            "`update` was called with predictions=float32[8, 2], target=int64[8].",
        ),
        (None, {"train_dataloader": NOTHING}, TypeError, NO_BATCH),
        (None, {"val_dataloader": NOTHING}, TypeError, NO_BATCH),
        (None, {"training_step": step_of("disc")}, TypeError, ONE_OPTIMIZER),
    ],
)
def test_error_of_user_code_has_a_note_on_its_cause(
    tmp_path: Path, model: nn.Module | None, changes: dict[str, Any], error: type[Exception], note: str
) -> None:
    with pytest.raises(error) as caught:
        runner(tmp_path, model, **changes).train()
    assert note in vars(caught.value)["__notes__"]
    assert not list(tmp_path.glob("*.pth"))  # in validation, the preflight check finds it


def test_unknown_optimizer_is_reported_with_those_of_the_run(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(UnknownNameError, match="there is no optimizer 'disk'") as caught:
        runner(tmp_path, model, training_step=step_of("disk"), optim_wrapper={"disc": SGD(model.parameters())}).train()
    assert (caught.value.suggestion, caught.value.notes) == ("disc", ("optimizers: disc",))


def test_optimizer_that_needs_a_closure_is_stepped_by_the_training_step(tmp_path: Path) -> None:
    model = network(0.0)
    with pytest.raises(ArgumentError, match="LBFGS needs a closure") as caught:
        runner(tmp_path / "1", model, optim_wrapper=LBFGS(model.parameters())).train()
    assert "optimizer.step(closure=closure)" in caught.value.notes[0]

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = CROSS_ENTROPY(model(batch[0]), batch[1])
            loss.backward()
            return loss

        optimizer.step(closure=closure)
        return CROSS_ENTROPY(model(batch[0]), batch[1]).detach()

    history = runner(tmp_path / "2", model, training_step=step, optim_wrapper=LBFGS(model.parameters())).train()
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize("kind", ["update_params", "wrapper", "torch", "none"])
def test_only_a_training_step_that_changes_no_weight_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)

    def step(model: nn.Module, batch: Any, optimizers: Any) -> Any:
        loss = CROSS_ENTROPY(model(batch[0]), batch[1])
        if kind == "update_params":
            optimizers["d"].update_params(loss)
        elif kind != "none":
            stepped = optimizers["d"] if kind == "wrapper" else optimizer
            stepped.zero_grad()
            loss.backward()
            stepped.step()
        return loss.detach()

    before = weights(model)
    runner(tmp_path, model, training_step=step, optim_wrapper={"d": optimizer}).train()
    assert torch.equal(weights(model), before) == (kind == "none")
    assert ("training_step did not step an optimizer" in caplog.text) == (kind == "none")


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_batch_of_weight_0_is_skipped(tmp_path: Path, optimizer: Any) -> None:
    """The step uses zero gradients, even if the loss is NaN, and its loss is not logged."""
    model, seen = network(0.0), list[Tensor]()

    def step(model: nn.Module, batch: Any, step: Any) -> Any:
        loss = CROSS_ENTROPY(model(batch[0]), batch[1])
        return Weighted(loss * float("nan"), 0) if step.iter == 0 else Weighted(loss, 1)

    made = runner(tmp_path, model, training_step=step, optim_wrapper=optimizer(model.parameters(), lr=0.1))
    made.on("before_train_iter", lambda runner: seen.append(weights(model)))
    history = made.train()
    assert [bool(torch.equal(a, b)) for a, b in zip(seen, seen[1:], strict=False)] == [True] + [False] * 8
    assert 0 < history[0]["loss"] < 1


def test_types_of_train_and_on(tmp_path: Path) -> None:
    """The type checker is the test: each line below fails without the types."""
    made = runner(tmp_path)

    @made.on("after_train_epoch")
    def count(runner: Runner) -> int:
        return runner.epoch

    assert_type(count(made), int)
    assert_type(made.on("after_train", count)(made), int)
    with pytest.raises(ArgumentError, match="did you mean 'after_train_epoch'"):
        made.on("after_train_epok", count)  # type: ignore[call-overload]
    assert_type(made.train(), History | Any)
    assert get_args(EventName) == tuple(EVENTS)
