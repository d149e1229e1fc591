import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import BaseModel, Hook, Runner
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.registry import MODELS
from tests.support import ToyModel, json_lines, settings

QUIET: dict[str, Any] = {"checkpoint": None, "logger": None}


def trained(tmp_path: Path, **changes: Any) -> Any:
    runner = Runner(**settings(tmp_path, **{"default_hooks": QUIET, **changes}))
    runner.train()
    return runner.message_hub


def values(hub: Any, key: str) -> list[float]:
    found: list[float] = hub.get_scalar(key).data[0].tolist()
    return found


def test_logged_learning_rate_is_that_of_the_first_trainable_group(tmp_path: Path) -> None:
    model = ToyModel()
    frozen, trained_layer = model.layers[0].requires_grad_(False), model.layers[3]
    groups: list[dict[str, Any]] = [{"params": frozen.parameters(), "lr": 0.0}, {"params": trained_layer.parameters()}]
    wrapper = {"type": "OptimWrapper", "optimizer": torch.optim.SGD(groups, lr=0.3)}
    hub = trained(tmp_path, model=model, optim_wrapper=wrapper, param_scheduler=None)
    assert set(values(hub, "train/lr")) == {0.3}


def test_different_learning_rates_of_groups_are_logged(tmp_path: Path) -> None:
    model = ToyModel()
    first, head = model.layers[0], model.layers[3]
    groups: list[dict[str, Any]] = [
        {"params": [first.weight], "lr": 0.1},
        {"params": [first.bias], "lr": 0.1},
        {"params": [head.weight], "lr": 0.2, "name": "head"},
        {"params": [head.bias], "lr": 0.4},
    ]
    wrapper = {"type": "OptimWrapper", "optimizer": torch.optim.SGD(groups)}
    hub = trained(tmp_path, model=model, optim_wrapper=wrapper, param_scheduler=None)
    rates = {name: value.current() for name, value in hub.scalars_of("train").items() if name.startswith("lr")}
    assert rates == {"lr": 0.1, "lr_head": 0.2, "lr_group3": 0.4}


def test_losses_are_recorded_each_iteration(tmp_path: Path) -> None:
    class Count(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.times = torch.nn.Parameter(torch.zeros(())), 0

        def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
            self.times += 1
            extra = {"extra": torch.tensor(1.0)} if self.times > 2 else {}
            return {"loss": self.weight * 0 + self.times, "acc": torch.tensor(self.times / 10), **extra}

    model: Any = Count()
    nothing = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}
    hub = trained(tmp_path, model=model, train_cfg={"max_epochs": 1}, **nothing)
    assert values(hub, "train/loss") == [1, 2, 3, 4]
    assert values(hub, "train/acc") == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert values(hub, "train/extra") == [1, 1]  # a loss may be missing at first


class Mixed(BaseMetric[float]):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list[float]) -> dict[str, Any]:
        scalars = {"a": np.bool_(True), "b": 2.5, "c": np.float32(3.5), "d": torch.tensor([4.5]), "e": np.array([5.5])}
        return {**scalars, "table": [1, 2], "name": "x"}


def test_scalar_and_other_metrics_are_recorded(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, default_hooks=QUIET, test_evaluator=Mixed()))
    runner.test()
    hub = runner.message_hub
    assert [values(hub, f"test/{name}") for name in "abcde"] == [[1.0], [2.5], [3.5], [4.5], [5.5]]
    assert (hub.get_info("test/table"), hub.get_info("test/name")) == ([1, 2], "x")


@pytest.mark.parametrize("by_epoch", [True, False])
def test_epoch_window_starts_with_the_epoch_or_validation_interval(tmp_path: Path, by_epoch: bool) -> None:
    train_cfg = settings(tmp_path, by_epoch=by_epoch)["train_cfg"]
    hub = trained(tmp_path, train_cfg=train_cfg)
    history = hub.get_scalar("train/loss")
    assert history.mean("row") == pytest.approx(history.mean(4))
    assert history.mean("global") == pytest.approx(history.mean(12))


def test_row_of_an_epoch_has_its_mean_losses_although_a_hook_requests_validation(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    losses: list[float] = []

    def request(runner: Runner, outputs: Any) -> None:
        losses.append(float(outputs["loss"]))
        runner.train_loop.validation_requested = len(losses) == 2

    runner.on("after_train_iter", request)
    runner.train()
    assert [row["loss"] for row in runner.history[:2]] == pytest.approx([sum(losses[:2]) / 2, sum(losses[:4]) / 4])


@MODELS.register_module()
class NamesItsLossesAsTheLogDoes(ToyModel):
    """Returns losses with names that the log uses itself."""

    NAMES = ("lr", "time", "step", "iter", "epoch", "memory", "grad_norm", "mode")

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str = "tensor") -> Any:
        found = super().forward(inputs, labels, mode)
        return {**found, **{name: torch.tensor(-99.0) for name in self.NAMES}} if mode == "loss" else found


def test_losses_do_not_replace_the_scalars_of_the_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        hub = trained(
            tmp_path,
            model={"type": "NamesItsLossesAsTheLogDoes"},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.5}, "clip_grad": {"max_norm": 10}},
            param_scheduler=None,
            default_hooks={"checkpoint": None, "logger": {"interval": 1}},
        )

    assert set(values(hub, "train/lr")) == {0.5}
    assert min(values(hub, "train/time")) > 0
    assert min(values(hub, "train/grad_norm")) > 0
    for name in NamesItsLossesAsTheLogDoes.NAMES:
        assert set(values(hub, f"train/{name}_of_model")) == {-99.0}
        said = [each for each in caplog.messages if each.startswith(f"The name '{name}' is reserved in the log")]
        assert len(said) == 1
    lines = json_lines(next(tmp_path.glob("*/vis_data/scalars.json")))
    trained_lines = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained_lines] == [*range(1, 13)]


class Clock:
    """A clock that only advances on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_iteration_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)

    class Slow(Hook):
        priority = "HIGHEST"

        def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
            clock.now += {"train": 0.0, "val": 2.0}[mode]

        def _after_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
        ) -> None:
            clock.now += {"train": 10.0, "val": 20.0}[mode]

        def before_val(self, runner: Any) -> None:
            clock.now += 1000.0

        def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
            clock.now += 5000.0

    class SlowBatches:
        def __iter__(self) -> Any:
            for batch in [(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))] * 4:
                clock.now += 40.0
                yield batch

    def sleep(runner: Any) -> None:
        clock.now += 3.0

    train_cfg = {"by_epoch": False, "max_iters": 4, "val_interval": 2}
    changes: dict[str, Any] = {"custom_hooks": [Slow()], "default_hooks": QUIET, "train_cfg": train_cfg}
    runner = Runner(**settings(tmp_path, train_dataloader=SlowBatches(), **changes))
    runner.on("after_train_iter", sleep, "LOW")  # after IterTimerHook
    runner.train()
    times = {key: history.data[0].tolist() for key, history in runner.message_hub.log_scalars.items() if "time" in key}
    assert times == {
        "train/data_time": [40.0] * 4,
        "train/time": [50.0, 53.0, 50.0, 53.0],  # after_val restarts the timer
        "val/data_time": [2.0] * 4,
        "val/time": [22.0] * 4,
    }
    warnings = [text for text in caplog.messages if "waiting for data" in text]
    assert ["52 % of its time" in text for text in warnings] == [True]


def test_train_step_that_returns_something_else_is_an_error(tmp_path: Path) -> None:
    class Odd(ToyModel):
        def train_step(self, data: Any, optim_wrapper: Any) -> Any:
            super().train_step(data, optim_wrapper)
            return (1.0,)

    with pytest.raises(ArgumentError, match="train_step must return a dict of values to log"):
        trained(tmp_path, model=Odd())


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_repeated_validation_sees_the_position_of_the_latest_iteration(tmp_path: Path, by_epoch: bool) -> None:
    seen: list[tuple[int, int]] = []

    def run(**changes: Any) -> list[tuple[int, int]]:
        seen.clear()
        hooks = {"checkpoint": {"by_epoch": False, "interval": 4, "save_last": False}}
        runner = Runner(**settings(tmp_path, by_epoch=by_epoch, default_hooks=hooks, **changes))
        info = runner.message_hub.get_info
        runner.on("before_val", lambda runner: seen.append((info("epoch"), info("iter"))))
        runner.train()
        return [*seen]

    whole = run()
    # Saved before the validation that was due.
    resumed = run(resume=True, load_from=str(tmp_path / "iter_8.pth"))
    assert len(resumed) == 2
    assert resumed == whole[1:]
