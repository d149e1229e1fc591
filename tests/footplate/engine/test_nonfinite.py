import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from footplate import Hook, Run, Runner
from footplate.cli.main import main
from footplate.engine.saving.nonfinite import nonfinite_weights
from footplate.errors import NonFiniteError
from footplate.messages import pluralize
from tests.support import ToyModel, settings


class Failing(ToyModel):
    """A model whose loss is `value` starting from a given forward call."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.at, self.value, self.calls = at, value, 0

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        found = super().forward(inputs, labels, mode)
        if mode != "loss":
            return found
        self.calls += 1
        bad = self.value if self.calls >= self.at else 1.0
        return {"loss_ce": found["loss"], "loss_aux": found["loss"] * bad}


def run(tmp_path: Path, at: int = 7, value: float = math.nan, interval: int = 4, **policy: Any) -> Runner:
    cfg = settings(
        tmp_path,
        by_epoch=False,
        model=Failing(at, value),
        on_nonfinite={"interval": interval, **policy},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 3}},
    )
    runner = Runner(**{**cfg, "log_level": "INFO"})
    runner.train()
    return runner


def test_non_finite_loss_stops_the_run_with_its_first_iteration(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError) as caught:
        run(tmp_path, at=7, value=math.inf)
    assert caught.value.message == "the loss was inf in iteration 7 (loss_aux)"
    assert caught.value.notes[0].startswith("Before that, the loss was ")
    assert caught.value.notes[1] == f"The last good checkpoint is {tmp_path / 'iter_6.pth'}"
    assert caught.value.exit_code == 3
    assert sorted(each.name for each in tmp_path.glob("*.pth")) == ["iter_3.pth", "iter_6.pth"]


@pytest.mark.parametrize(("name", "save_optimizer"), [("weights.pth", False), ("best_mIoU_model-4.ckpt", True)])
def test_last_good_checkpoint_is_one_that_a_resume_considers(tmp_path: Path, name: str, save_optimizer: bool) -> None:
    runner = Runner(**settings(tmp_path, model=Failing(7, math.nan)))

    def save(runner: Runner) -> None:
        if runner.iter == 5:
            runner.save_checkpoint(str(tmp_path), name, save_optimizer=save_optimizer)

    runner.on("after_train_iter", save)
    with pytest.raises(NonFiniteError) as caught:
        runner.train()
    assert caught.value.notes[1] == f"The last good checkpoint is {tmp_path / 'epoch_1.pth'}"


def test_no_checkpoint_contains_nan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, loss="warn", grad="warn")
    names = sorted(each.name for each in tmp_path.glob("*.pth"))
    assert names == ["iter_3.pth", "iter_6.pth"]
    assert [each for each in caplog.messages if "The last good checkpoint is" in each]
    assert [each for each in caplog.messages if each.startswith("the loss was nan in iteration 7 (loss_aux)")]


def test_save_detects_a_non_finite_loss_before_the_interval(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NonFiniteError, match="the loss was nan in iteration 7") as caught:
        run(tmp_path, interval=100, grad="warn")
    assert caught.value.notes[1] == f"The last good checkpoint is {tmp_path / 'iter_6.pth'}"
    logged = [message for message in caplog.messages if message.startswith("Saving checkpoint")]
    assert logged == [f"Saving checkpoint at iteration {number}" for number in (3, 6, 9)]


def test_weights_are_checked_before_a_save(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    runner.train()
    next(runner.model.parameters()).data[0, 0] = math.nan
    with pytest.raises(NonFiniteError, match="the weights contain NaN or infinity after iteration 12") as caught:
        runner.save_checkpoint(str(tmp_path), "now.pth")
    assert caught.value.notes == (
        "Non-finite weights: 'layers.0.weight'",
        f"The last good checkpoint is {tmp_path / 'epoch_3.pth'}",
    )
    assert not (tmp_path / "now.pth").exists()


class SteepModel(ToyModel):
    """A model whose gradients, but not losses, are NaN in the calls `at`."""

    def __init__(self, *at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        found = super().forward(inputs, labels, mode)
        if mode == "loss":
            self.calls += 1
            weight = next(self.parameters())
            steep = torch.sqrt(weight[0, 0] - weight[0, 0].detach()) if self.calls in self.at else 0.0
            found = {"loss": found["loss"] + steep}
        return found


def test_weights_are_checked_with_one_copy_to_the_cpu_and_without_doubles() -> None:
    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **kwargs or {})
            copies.append(func is torch.ops.aten._local_scalar_dense.default)
            assert getattr(result, "dtype", None) is not torch.float64  # MPS has no doubles
            return result

    copies: list[bool] = []
    with Recorder():  # type: ignore[no-untyped-call]
        assert nonfinite_weights(ToyModel()) == []
    assert sum(copies) == 1


def steep(tmp_path: Path, **policy: Any) -> Runner:
    wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}, **policy.pop("wrapper", {})}
    runner = Runner(
        **settings(
            tmp_path, by_epoch=False, model=SteepModel(3, 5, 6), on_nonfinite=policy or None, optim_wrapper=wrapper
        )
    )
    runner.train()
    return runner


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"loss": "skip"},
        {"wrapper": {"optimizer": {"type": "AdamW", "fused": True}}},
        {"wrapper": {"clip_grad": {"max_norm": 1.0}}},
        {"grad": "stop", "wrapper": {"on_nonfinite": "skip"}},
    ],
)
def test_steps_with_non_finite_gradients_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: dict[str, Any]
) -> None:
    runner = steep(tmp_path, **policy)
    assert nonfinite_weights(runner.model) == []
    assert [each for each in caplog.messages if "skipped" in each] == [
        f"The gradients in iteration {at} are non-finite ({pluralize(times, 'time')} so far): the step is skipped."
        for times, at in ((1, 3), (2, 5))
    ]


def test_non_finite_gradients_stop_the_run_with_policy_stop(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="the gradients in iteration 3 are non-finite"):
        steep(tmp_path, grad="stop")


def train_plain(tmp_path: Path, training_step: Any, iterations: int, **policy: Any) -> None:
    model = torch.nn.Linear(1, 1)
    batches = [[torch.ones(1, 1)]] * iterations
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    arguments: dict[str, Any] = {"training_step": training_step, "optim_wrapper": optimizer, "max_epochs": 1}
    Runner(model, tmp_path, batches, on_nonfinite=policy, **arguments).train()


def test_error_states_the_iteration_if_it_has_several_losses(tmp_path: Path) -> None:
    def training_step(model: torch.nn.Module, batch: Any, optimizer: Any, step: Any) -> Any:
        factors = (1.0, torch.nan if step.iter == 2 else 1.0)
        for factor in factors:
            loss = factor * model(batch[0]).mean()
            optimizer.update_params(loss)
        return loss

    with pytest.raises(NonFiniteError, match="the gradients in iteration 3 are non-finite"):
        train_plain(tmp_path, training_step, 4, grad="stop")


def test_command_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nan.py"
    cfg = settings(
        tmp_path / "work", on_nonfinite={"interval": 1}, optim_wrapper={"optimizer": {"type": "SGD", "lr": 1e38}}
    )
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in cfg.items()))
    assert main(["train", str(path)]) == 3
    assert capsys.readouterr().err.startswith("error: the loss was nan in iteration 3")


def test_averages_are_checked_before_a_save(tmp_path: Path) -> None:
    class Spoiled(Hook):
        def after_train_iter(self, runner: Run, *args: Any, **kwargs: Any) -> None:
            if runner.iter == 1:
                assert isinstance(runner, Runner)
                average = runner.parts.average
                assert average is not None
                next(average.parameters()).data.fill_(math.nan)

    hooks = [{"type": "EMAHook"}, Spoiled()]
    runner = Runner(
        **settings(
            tmp_path,
            by_epoch=False,
            custom_hooks=hooks,
            default_hooks={"checkpoint": {"by_epoch": False, "interval": 1}},
        )
    )
    with pytest.raises(
        NonFiniteError, match="the averaged weights contain NaN or infinity after iteration 2"
    ) as caught:
        runner.train()
    assert "The last good checkpoint is" in str(caught.value)
