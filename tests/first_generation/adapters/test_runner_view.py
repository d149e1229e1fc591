from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.first_generation.adapters import Hook, MMDataParallel, view_of
from tests.first_generation.adapters.support import OldModelWithSteps, old_config
from tests.support import settings


class Recorder(Hook):
    """Records the result of a function of the runner after each iteration."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.results: list[Any] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.results.append(self.function(runner))


def recorded(tmp_path: Path, function: Any, **changes: Any) -> list[Any]:
    hook = Recorder(function)
    Runner.from_cfg(old_config(tmp_path, custom_hooks=[hook], **changes)).train()
    return hook.results


def test_current_lr_is_that_of_the_iteration(tmp_path: Path) -> None:
    # The learning rate drops after the second of three epochs, before the hook is called.
    rates = recorded(tmp_path, lambda runner: runner.current_lr()[0])
    assert rates == pytest.approx([0.1] * 8 + [0.01] * 4)


def test_current_momentum_is_that_of_the_iteration(tmp_path: Path) -> None:
    adam = {"type": "Adam", "lr": 0.1, "betas": (0.8, 0.9)}
    assert recorded(tmp_path / "adam", lambda runner: runner.current_momentum(), optimizer=adam) == [[0.8]] * 12
    assert recorded(tmp_path / "sgd", lambda runner: runner.current_momentum()) == [[0.9]] * 12


def test_outputs_are_those_of_the_model(tmp_path: Path) -> None:
    def function(runner: Any) -> Any:
        outputs = runner.outputs
        return sorted(outputs), outputs["num_samples"], outputs["log_vars"]["loss"] == float(outputs["loss"].detach())

    assert recorded(tmp_path, function) == [(["log_vars", "loss", "num_samples"], 4, True)] * 12


def test_model_is_wrapped(tmp_path: Path) -> None:
    def function(runner: Any) -> Any:
        return type(runner.model), type(runner.model.module), runner.model_name, runner.model is runner.model

    assert recorded(tmp_path, function)[0] == (MMDataParallel, OldModelWithSteps, "OldModelWithSteps", True)


def test_other_attributes(tmp_path: Path) -> None:
    def function(runner: Any) -> Any:
        return (
            (runner.epoch, runner.iter, runner.inner_iter, runner.max_epochs, runner.max_iters, runner._max_iters),
            len(runner.data_loader),
            list(runner.data_batch),
            type(runner.optimizer).__name__,
            (runner.rank, runner.world_size, runner.work_dir, runner.meta["exp_name"] == runner.experiment_name),
            len(runner.hooks) > 4,
            "Recorder (NORMAL)" in runner.get_hook_info(),
        )

    expected = ((1, 5, 1, 3, 12, 12), 4, ["img", "label"], "SGD", (0, 1, str(tmp_path), True), True, True)
    assert recorded(tmp_path, function)[5] == expected


def test_epoch_of_iteration_based_run_counts_passes_over_the_data(tmp_path: Path) -> None:
    def function(runner: Any) -> Any:
        return runner.epoch, runner.inner_iter, runner.max_epochs

    changes: dict[str, Any] = {"runner": {"type": "IterBasedRunner", "max_iters": 6}, "lr_config": None}
    assert recorded(tmp_path, function, **changes) == [(0, place, None) for place in range(4)] + [
        (1, 0, None),
        (1, 1, None),
    ]


def test_hooks_share_attributes(tmp_path: Path) -> None:
    class Leave(Hook):
        def before_run(self, runner: Any) -> None:
            runner.found = 5
            runner.meta["hook_msgs"]["last"] = "seen"

    hook = Recorder(lambda runner: (runner.found, runner.meta["hook_msgs"]))
    Runner.from_cfg(old_config(tmp_path, custom_hooks=[Leave(), hook])).train()
    assert hook.results[0] == (5, {"last": "seen"})


def test_log_buffer_values_are_recorded(tmp_path: Path) -> None:
    class Logs(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.log_buffer.update({"grad_norm": torch.tensor(2.0)}, runner.outputs["num_samples"])
            runner.log_buffer.output["share"] = runner.iter / 10

    seen = Recorder(
        lambda runner: (runner.log_buffer.average(2), dict(runner.log_buffer.output), runner.log_buffer.ready)
    )
    runner = Runner.from_cfg(old_config(tmp_path, custom_hooks=[Logs(), seen]))
    runner.train()
    assert runner.message_hub.get_scalar("train/share").data[0].tolist() == [i / 10 for i in range(12)]
    assert runner.message_hub.get_scalar("train/grad_norm").mean() == 2.0
    last = seen.results[3][1]
    assert (last["share"], last["grad_norm"], seen.results[3][2]) == (pytest.approx(0.25), 2.0, True)
    assert view_of(runner).log_buffer.val_history["share"] == pytest.approx([0.8, 0.9, 1.0, 1.1])  # of the last epoch
    assert view_of(runner).log_buffer.n_history["grad_norm"] == [4.0] * 4


def test_save_checkpoint_from_a_hook(tmp_path: Path) -> None:
    class Saves(Hook):
        def after_train_epoch(self, runner: Any) -> None:
            if self.is_last_epoch(runner):
                runner.save_checkpoint(
                    runner.work_dir, filename_tmpl="mine_{}.pth", save_optimizer=False, meta={"a": 1}
                )

    Runner.from_cfg(old_config(tmp_path, custom_hooks=[Saves()])).train()
    saved = load_checkpoint(str(tmp_path / "mine_3.pth"))
    assert saved["meta"]["a"] == 1
    assert "optimizer" not in saved


def test_outputs_of_second_generation_model(tmp_path: Path) -> None:
    hook = Recorder(
        lambda runner: (sorted(runner.outputs["log_vars"]), runner.outputs["num_samples"], runner.model.module)
    )
    runner = Runner(**settings(tmp_path, custom_hooks=[hook]))
    runner.train()
    assert hook.results[0] == (["acc", "loss"], 4, runner.model)
