from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.legacy import (
    Fp16OptimizerHook,
    GradientCumulativeFp16OptimizerHook,
    GradientCumulativeOptimizerHook,
    OptimizerHook,
)
from footplate.registry import HOOKS, OPTIMIZERS
from tests.legacy.support import first

CLIP = {"max_norm": 0.1}


@HOOKS.register_module()
class MyStep(OptimizerHook):
    calls = 0

    def step(self, runner: Any) -> None:
        type(self).calls += 1
        super().step(runner)


@HOOKS.register_module()
class MyRound(GradientCumulativeOptimizerHook):
    """Keeps everything."""


@HOOKS.register_module()
class MyHalf(Fp16OptimizerHook):
    """Keeps everything."""


@HOOKS.register_module()
class MyHalfRound(GradientCumulativeFp16OptimizerHook):
    """Keeps everything."""


def weights(tmp_path: Path, **changes: Any) -> torch.Tensor:
    runner = Runner.from_cfg(first(tmp_path, **changes))
    runner.train()
    return torch.cat([each.detach().flatten() for each in runner.model.parameters()])


# A hook of one's own, and the settings of the wrapper that it should act as; the last round of 5 in 12 is short.
ALIKE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "MyStep", "grad_clip": None}, {"grad_clip": None}),
    ({"type": "MyStep", "grad_clip": CLIP}, {"grad_clip": CLIP}),
    ({"type": "MyRound", "cumulative_iters": 5}, {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 5}),
    (
        {"type": "MyRound", "cumulative_iters": 3, "grad_clip": CLIP},
        {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 3, "grad_clip": CLIP},
    ),
    ({"type": "MyHalf", "grad_clip": CLIP}, {"type": "Fp16OptimizerHook", "grad_clip": CLIP}),
    (
        {"type": "MyHalfRound", "cumulative_iters": 4},
        {"type": "GradientCumulativeFp16OptimizerHook", "cumulative_iters": 4},
    ),
]


@pytest.mark.parametrize(("own", "known"), ALIKE)
def test_a_hook_of_ones_own_steps_as_the_wrapper_does(tmp_path: Path, own: Any, known: Any) -> None:
    plain = weights(tmp_path / "plain", optimizer_config={})
    mine = weights(tmp_path / "own", optimizer_config=own)
    assert torch.allclose(mine, weights(tmp_path / "known", optimizer_config=known), atol=1e-6)
    assert torch.equal(mine, plain) is (own == ALIKE[0][0])


def test_a_step_is_made_at_the_rate_of_its_iteration(tmp_path: Path) -> None:
    # The schedule acts first, at VERY_HIGH, and has moved on by then.
    falls: dict[str, Any] = {
        "runner": {"type": "IterBasedRunner", "max_iters": 12},
        "lr_config": {"policy": "poly", "power": 1.0, "by_epoch": False},
    }
    rates: list[float] = []

    @HOOKS.register_module(force=True)
    class Tells(OptimizerHook):
        def step(self, runner: Any) -> None:
            rates.append(runner.optimizer.param_groups[0]["lr"])
            super().step(runner)

    mine = weights(tmp_path / "own", optimizer_config={"type": "Tells"}, **falls)
    assert rates == pytest.approx([0.1 * (1 - done / 12) for done in range(12)])
    assert torch.allclose(mine, weights(tmp_path / "plain", optimizer_config={}, **falls), atol=1e-7)


def test_what_an_optimizer_counts_in_its_groups_is_kept(tmp_path: Path) -> None:
    @OPTIMIZERS.register_module(force=True)
    class Counts(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["steps"] = group.get("steps", 0) + 1
            return super().step(closure)

    runner = Runner.from_cfg(
        first(tmp_path, optimizer={"type": "Counts", "lr": 0.1}, optimizer_config={"type": "MyStep"})
    )
    runner.train()
    assert runner.optim_wrapper.param_groups[0]["steps"] == 12


def test_it_is_called_once_an_iteration_and_records_the_norm(tmp_path: Path) -> None:
    MyStep.calls = 0
    runner = Runner.from_cfg(first(tmp_path, optimizer_config={"type": "MyStep", "grad_clip": CLIP}))
    runner.train()
    assert MyStep.calls == 12
    assert runner.message_hub.get_scalar("train/grad_norm").data[0].shape == (12,)
    line = next(line for line in runner.hooks.describe().splitlines() if line.strip().startswith("after_train_iter"))
    assert "MyStep (ABOVE_NORMAL), CheckpointHook" in line or "MyStep (ABOVE_NORMAL), IterTimerHook" in line


def test_parameters_without_a_part_in_the_loss_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner.from_cfg(first(tmp_path, optimizer_config={"type": "MyStep", "detect_anomalous_params": True}))
    runner.model.module.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
    runner.train()
    assert "idle of size (2,) takes no part in the loss" in caplog.text
    assert "head.weight" not in caplog.text


def test_two_that_step_are_refused(tmp_path: Path) -> None:
    runner = Runner.from_cfg(first(tmp_path, custom_hooks=[{"type": "OptimizerHook"}]))
    with pytest.raises(ArgumentError, match="OptimizerHook steps, and so does the optimizer wrapper"):
        runner.train()


@pytest.mark.parametrize("count", [0, 1.5, True])
def test_a_round_has_a_positive_number_of_iterations(count: Any) -> None:
    with pytest.raises(ArgumentError, match="cumulative_iters"):
        GradientCumulativeOptimizerHook(cumulative_iters=count)


def test_a_model_may_step_by_itself(tmp_path: Path) -> None:
    from tests.legacy.support import OldModelWithSteps

    class Pair(OldModelWithSteps):
        def train_step(self, data: Any, optimizer: Any) -> dict[str, Any]:
            outputs = super().train_step(data, None)
            outputs["loss"].backward()
            for part in optimizer.values():
                part.step()
                part.zero_grad()
            return {"log_vars": outputs["log_vars"], "num_samples": 4}

    sgd = {"type": "SGD", "lr": 0.1, "momentum": 0.9}
    changes: dict[str, Any] = {"optimizer": {"backbone": sgd, "head": sgd}, "optimizer_config": None, "lr_config": None}
    torch.manual_seed(7)
    runner = Runner.from_cfg(first(tmp_path, model=Pair(), **changes))
    before = torch.cat([each.detach().flatten() for each in runner.model.parameters()]).clone()
    runner.train()
    after = torch.cat([each.detach().flatten() for each in runner.model.parameters()])
    assert not torch.equal(before, after)
    assert runner.message_hub.get_scalar("train/loss").data[0].shape == (12,)
