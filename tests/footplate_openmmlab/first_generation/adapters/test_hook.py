import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook as SecondHook
from footplate import Runner
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters import Hook
from footplate_openmmlab.first_generation.adapters.hook import GENERAL
from tests.footplate_openmmlab.first_generation.adapters.recorder import Recorder
from tests.footplate_openmmlab.first_generation.adapters.support import (
    OldPoints,
    old_config,
    old_config_with_evaluation,
)

EVENTS = (*GENERAL, "before_epoch", "after_epoch", "before_iter", "after_iter")


def _recorder(event: str) -> Any:
    def method(self: Recorder, runner: Any) -> None:
        self.seen.append((event, runner.epoch, runner.iter, runner.inner_iter, runner.mode))

    return method


for _event in EVENTS:
    setattr(Recorder, _event, _recorder(_event))


def train(tmp_path: Path, *hooks: Any, **changes: Any) -> Runner:
    runner = Runner.from_cfg(old_config(tmp_path, custom_hooks=list(hooks), **changes))
    runner.train()
    return runner


@HOOKS.register_module()
class BufferEMAHook(Hook):
    """Averages the weights in buffers, and swaps both between epochs, as MMDetection 2.x does."""

    def before_run(self, runner: Any) -> None:
        self.pairs: list[Any] = []
        for name, weight in list(runner.model.module.named_parameters()):
            buffer = f"ema_{name.replace('.', '_')}"
            runner.model.module.register_buffer(buffer, weight.data.clone())
            self.pairs.append((weight, getattr(runner.model.module, buffer)))

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        for weight, average in self.pairs:
            average.lerp_(weight.data, 0.5)

    def swap(self, runner: Any) -> None:
        for weight, average in self.pairs:
            saved = weight.data.clone()
            weight.data.copy_(average)
            average.copy_(saved)

    before_train_epoch = after_train_epoch = swap


@pytest.mark.parametrize("name", ["iter_1.pth", "epoch_1.pth", "iter_3.pth"])
def test_averages_in_buffers_are_resumed(tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = {
        "custom_hooks": [{"type": "BufferEMAHook"}, {"type": "CheckpointHook", "interval": 1, "by_epoch": False}]
    }
    whole = Runner.from_cfg(old_config(tmp_path / "whole", **changes))
    whole.train()
    resumed = Runner.from_cfg(old_config(tmp_path / "resumed", **changes))
    resumed.resume(str(tmp_path / "whole" / name))
    resumed.train()
    weights = whole.model.state_dict()
    assert any(key.startswith("ema_") for key in weights)
    assert all(torch.equal(value, resumed.model.state_dict()[key]) for key, value in weights.items())


# The events of mmcv 1.7.2 for four points in two batches and two epochs: epoch, iter, inner_iter and mode.
EPOCHS = [
    "before_run 0 0 0 train",
    "before_train_epoch 0 0 0 train",
    "before_train_iter 0 0 0 train",
    "after_train_iter 0 0 0 train",
    "before_train_iter 0 1 1 train",
    "after_train_iter 0 1 1 train",
    "after_train_epoch 0 2 1 train",
    "before_train_epoch 1 2 1 train",
    "before_train_iter 1 2 0 train",
    "after_train_iter 1 2 0 train",
    "before_train_iter 1 3 1 train",
    "after_train_iter 1 3 1 train",
    "after_train_epoch 1 4 1 train",
    "after_run 2 4 1 train",
]


def data(size: int) -> dict[str, Any]:
    return {"samples_per_gpu": 2, "workers_per_gpu": 0, "train": {"type": "OldPoints", "size": size}}


def test_events_of_epoch_based_run(tmp_path: Path) -> None:
    hook = Recorder()
    train(tmp_path, hook, data=data(4), runner={"type": "EpochBasedRunner", "max_epochs": 2})
    assert [" ".join(map(str, each)) for each in hook.seen] == EPOCHS


class MetricReader(Hook):
    """Stops after the second validation without a new best score, as hooks for early stopping do."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.scores: list[float] = []

    def read(self, runner: Any) -> None:
        messages, metrics = runner.meta["hook_msgs"], runner.log_buffer.output
        best = messages.get("best_score"), Path(messages.get("best_ckpt", "")).name
        self.seen.append((runner.epoch, runner.iter, runner.inner_iter, metrics.get("accuracy"), *best))
        if "accuracy" in metrics:
            self.scores.append(metrics["accuracy"])
        if len(self.scores) - self.scores.index(max(self.scores)) > 2:
            runner.train_loop.stop_training = True

    def after_train_epoch(self, runner: Any) -> None:
        self.read(runner)

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.max_epochs is None and runner.iter % 4 == 3:
            self.read(runner)


# What the hook reads in mmcv 1.7.2.
READ = {
    True: [
        (0, 4, 3, 0.5, 0.5, "best_accuracy_epoch_1.pth"),
        (1, 8, 3, 0.75, 0.75, "best_accuracy_epoch_2.pth"),
        (2, 12, 3, 0.6, 0.75, "best_accuracy_epoch_2.pth"),
        (3, 16, 3, 0.7, 0.75, "best_accuracy_epoch_2.pth"),
    ],
    False: [
        (0, 3, 3, 0.5, 0.5, "best_accuracy_iter_4.pth"),
        (1, 7, 3, 0.75, 0.75, "best_accuracy_iter_8.pth"),
        (2, 11, 3, 0.6, 0.75, "best_accuracy_iter_8.pth"),
        (3, 15, 3, 0.7, 0.75, "best_accuracy_iter_8.pth"),
    ],
}


@pytest.mark.parametrize("by_epoch", [True, False])
def test_hook_after_eval_hook_reads_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_epoch: bool) -> None:
    def read(values: list[float], **changes: Any) -> list[Any]:
        metrics = iter(values)
        monkeypatch.setattr(OldPoints, "evaluate", lambda *_, **__: {"accuracy": next(metrics)})
        cfg = old_config_with_evaluation(tmp_path, by_epoch=by_epoch, metric="accuracy", save_best="accuracy")
        hook = MetricReader()
        hook.priority = 80
        length = {"max_epochs": 5} if by_epoch else {"max_iters": 20}
        Runner.from_cfg({**cfg, "runner": {**cfg["runner"], **length}, "custom_hooks": [hook], **changes}).train()
        return hook.seen

    assert read([0.5, 0.75, 0.6, 0.7, 0.8]) == READ[by_epoch]
    # This checkpoint was saved before the second validation.
    saved = tmp_path / ("epoch_2.pth" if by_epoch else "iter_8.pth")
    resumed = read([0.75, 0.6, 0.7, 0.8], resume_from=str(saved), work_dir=str(tmp_path / "resumed"))
    assert [each[3:] for each in resumed] == [each[3:] for each in READ[by_epoch][1:]]


def test_late_hook_is_called_before_a_signal_during_validation_ends_the_run(tmp_path: Path) -> None:
    """Hooks after `EvalHook` wait for the validation. The resumed run does not repeat it."""
    epochs: list[int] = []

    class Late(Hook):
        def after_train_epoch(self, runner: Any) -> None:
            epochs.append(runner.epoch)

    class Stop(SecondHook):
        def before_val(self, runner: Any) -> None:
            if runner.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    def run(*hooks: Any, **changes: Any) -> None:
        cfg = old_config_with_evaluation(tmp_path, metric="accuracy", interval=1)
        runner = Runner.from_cfg({**cfg, "custom_hooks": list(hooks), **changes})
        runner.register_hook(Late(), "VERY_LOW")
        runner.train()

    with pytest.raises(SystemExit):
        run(Stop())
    run(resume_from=str(tmp_path / "on_signal.pth"))
    assert epochs == [0, 1, 2]
