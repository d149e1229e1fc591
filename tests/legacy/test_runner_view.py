from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.legacy import Hook, MMDataParallel, view_of
from tests.legacy.support import OldModelWithSteps, first
from tests.support import settings


class Ask(Hook):
    """Asks the runner something after each iteration."""

    def __init__(self, question: Any) -> None:
        self.question = question
        self.answers: list[Any] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.answers.append(self.question(runner))


def asked(tmp_path: Path, question: Any, **changes: Any) -> list[Any]:
    hook = Ask(question)
    Runner.from_cfg(first(tmp_path, custom_hooks=[hook], **changes)).train()
    return hook.answers


def test_learning_rates_are_those_of_the_iteration(tmp_path: Path) -> None:
    # Step down after the second of three epochs: the schedule has moved on when the hook is called.
    rates = asked(tmp_path, lambda runner: runner.current_lr()[0])
    assert rates == pytest.approx([0.1] * 8 + [0.01] * 4)


def test_momentum_is_that_of_the_iteration(tmp_path: Path) -> None:
    adam = {"type": "Adam", "lr": 0.1, "betas": (0.8, 0.9)}
    assert asked(tmp_path / "adam", lambda runner: runner.current_momentum(), optimizer=adam) == [[0.8]] * 12
    assert asked(tmp_path / "sgd", lambda runner: runner.current_momentum()) == [[0.9]] * 12


def test_the_outputs_are_the_models(tmp_path: Path) -> None:
    def question(runner: Any) -> Any:
        outputs = runner.outputs
        return sorted(outputs), outputs["num_samples"], outputs["log_vars"]["loss"] == float(outputs["loss"].detach())

    assert asked(tmp_path, question) == [(["log_vars", "loss", "num_samples"], 4, True)] * 12


def test_the_model_is_within_a_wrapper(tmp_path: Path) -> None:
    def question(runner: Any) -> Any:
        return type(runner.model), type(runner.model.module), runner.model_name, runner.model is runner.model

    assert asked(tmp_path, question)[0] == (MMDataParallel, OldModelWithSteps, "OldModelWithSteps", True)


def test_other_things_hooks_ask_for(tmp_path: Path) -> None:
    def question(runner: Any) -> Any:
        return (
            (runner.epoch, runner.iter, runner.inner_iter, runner.max_epochs, runner.max_iters, runner._max_iters),
            len(runner.data_loader),
            list(runner.data_batch),
            type(runner.optimizer).__name__,
            (runner.rank, runner.world_size, runner.work_dir, runner.meta["exp_name"] == runner.experiment_name),
            len(runner.hooks) > 4,
            "Ask (NORMAL)" in runner.get_hook_info(),
        )

    expected = ((1, 5, 1, 3, 12, 12), 4, ["img", "label"], "SGD", (0, 1, str(tmp_path), True), True, True)
    assert asked(tmp_path, question)[5] == expected


def test_a_run_by_iterations_counts_passes_over_the_data(tmp_path: Path) -> None:
    def question(runner: Any) -> Any:
        return runner.epoch, runner.inner_iter, runner.max_epochs

    changes: dict[str, Any] = {"runner": {"type": "IterBasedRunner", "max_iters": 6}, "lr_config": None}
    assert asked(tmp_path, question, **changes) == [(0, place, None) for place in range(4)] + [
        (1, 0, None),
        (1, 1, None),
    ]


def test_hooks_leave_things_for_each_other(tmp_path: Path) -> None:
    class Leave(Hook):
        def before_run(self, runner: Any) -> None:
            runner.found = 5
            runner.meta["hook_msgs"]["last"] = "seen"

    hook = Ask(lambda runner: (runner.found, runner.meta["hook_msgs"]))
    Runner.from_cfg(first(tmp_path, custom_hooks=[Leave(), hook])).train()
    assert hook.answers[0] == (5, {"last": "seen"})


def test_values_for_the_log_arrive(tmp_path: Path) -> None:
    class Logs(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.log_buffer.update({"grad_norm": torch.tensor(2.0)}, runner.outputs["num_samples"])
            runner.log_buffer.output["share"] = runner.iter / 10

    seen = Ask(lambda runner: (runner.log_buffer.average(2), dict(runner.log_buffer.output), runner.log_buffer.ready))
    runner = Runner.from_cfg(first(tmp_path, custom_hooks=[Logs(), seen]))
    runner.train()
    assert runner.message_hub.get_scalar("train/share").data[0].tolist() == [i / 10 for i in range(12)]
    assert runner.message_hub.get_scalar("train/grad_norm").mean() == 2.0
    last = seen.answers[3][1]
    assert (last["share"], last["grad_norm"], seen.answers[3][2]) == (pytest.approx(0.25), 2.0, True)
    assert view_of(runner).log_buffer.val_history["share"] == pytest.approx([0.8, 0.9, 1.0, 1.1])  # the last epoch's
    assert view_of(runner).log_buffer.n_history["grad_norm"] == [4.0] * 4


def test_a_hook_saves(tmp_path: Path) -> None:
    class Saves(Hook):
        def after_train_epoch(self, runner: Any) -> None:
            if self.is_last_epoch(runner):
                runner.save_checkpoint(
                    runner.work_dir, filename_tmpl="mine_{}.pth", save_optimizer=False, meta={"a": 1}
                )

    Runner.from_cfg(first(tmp_path, custom_hooks=[Saves()])).train()
    saved = load_checkpoint(str(tmp_path / "mine_3.pth"))
    assert saved["meta"]["a"] == 1
    assert "optimizer" not in saved


def test_a_model_of_the_second_generation_gives_outputs_too(tmp_path: Path) -> None:
    hook = Ask(lambda runner: (sorted(runner.outputs["log_vars"]), runner.outputs["num_samples"], runner.model.module))
    runner = Runner(**settings(tmp_path, custom_hooks=[hook]))
    runner.train()
    assert hook.answers[0] == (["acc", "loss"], 4, runner.model)
