from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate_openmmlab.first_generation.adapters import Hook
from tests.footplate_openmmlab.first_generation.adapters.support import old_config
from tests.support import settings


def test_averages_of_an_epoch_equal_those_of_mmcv(tmp_path: Path) -> None:
    # Values of mmcv 1.7.2 with the same hooks and numbers.
    seen: list[float] = []

    class Mine(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.log_buffer.update({"mine": float(runner.iter)}, runner.iter + 1)

        def after_train_epoch(self, runner: Any) -> None:
            assert runner.log_buffer.val_history["mine"] == list(range(runner.iter - 4, runner.iter))
            assert runner.log_buffer.n_history["mine"] == list(range(runner.iter - 3, runner.iter + 1))
            runner.log_buffer.average()
            assert "lr" not in runner.log_buffer.output
            seen.append(runner.log_buffer.output["mine"])

    Runner.from_cfg(old_config(tmp_path, custom_hooks=[Mine()])).train()
    assert seen == pytest.approx([2.0, 5.6923, 9.6190], abs=1e-4)


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


def test_current_momentum_is_that_of_the_iteration(tmp_path: Path) -> None:
    adam = {"type": "Adam", "lr": 0.1, "betas": (0.8, 0.9)}
    assert recorded(tmp_path / "adam", lambda runner: runner.current_momentum(), optimizer=adam) == [[0.8]] * 12
    assert recorded(tmp_path / "sgd", lambda runner: runner.current_momentum()) == [[0.9]] * 12


def test_outputs_are_those_of_the_model(tmp_path: Path) -> None:
    def function(runner: Any) -> Any:
        outputs = runner.outputs
        return sorted(outputs), outputs["num_samples"], outputs["log_vars"]["loss"] == float(outputs["loss"].detach())

    assert recorded(tmp_path, function) == [(["log_vars", "loss", "num_samples"], 4, True)] * 12


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


def test_outputs_of_second_generation_model(tmp_path: Path) -> None:
    hook = Recorder(
        lambda runner: (sorted(runner.outputs["log_vars"]), runner.outputs["num_samples"], runner.model.module)
    )
    runner = Runner(**settings(tmp_path, custom_hooks=[hook]))
    runner.train()
    assert hook.results[0] == (["acc", "loss"], 4, runner.model)


@pytest.mark.parametrize("by_epoch", [True, False])
def test_reducing_the_length_to_the_current_position_ends_the_run(tmp_path: Path, by_epoch: bool) -> None:
    def function(runner: Any) -> None:
        if runner.iter == 5:
            setattr(runner, *(("_max_epochs", runner.epoch + 1) if by_epoch else ("_max_iters", runner.iter + 1)))

    runner = Runner.from_cfg(old_config(tmp_path, by_epoch=by_epoch, custom_hooks=[Recorder(function)]))
    runner.train()
    assert runner.iter == (8 if by_epoch else 6)  # an epoch has 4 iterations
