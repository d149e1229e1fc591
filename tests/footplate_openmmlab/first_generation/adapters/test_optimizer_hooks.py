from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters.optimizer_hooks import (
    Fp16OptimizerHook,
    GradientCumulativeFp16OptimizerHook,
    GradientCumulativeOptimizerHook,
    OptimizerHook,
)
from tests.footplate_openmmlab.first_generation.adapters.support import old_config

CLIP = {"max_norm": 0.1}


@HOOKS.register_module()
class MyStep(OptimizerHook):
    calls = 0

    def step(self, runner: Any) -> None:
        type(self).calls += 1
        super().step(runner)


@HOOKS.register_module()
class MyCumulative(GradientCumulativeOptimizerHook):
    """Changes nothing."""


@HOOKS.register_module()
class MyHalf(Fp16OptimizerHook):
    """Changes nothing."""


@HOOKS.register_module()
class MyHalfCumulative(GradientCumulativeFp16OptimizerHook):
    """Changes nothing."""


def weights(tmp_path: Path, **changes: Any) -> torch.Tensor:
    runner = Runner.from_cfg(old_config(tmp_path, **changes))
    runner.train()
    return torch.cat([each.detach().flatten() for each in runner.model.parameters()])


# A user-defined hook and equivalent built-in settings. The last accumulation of 5 in 12 iterations is shorter.
EQUIVALENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "MyCumulative", "cumulative_iters": 5, "grad_clip": CLIP},
        {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 5, "grad_clip": CLIP},
    ),
    ({"type": "MyHalf", "grad_clip": CLIP}, {"type": "Fp16OptimizerHook", "grad_clip": CLIP}),
    (
        {"type": "MyHalfCumulative", "cumulative_iters": 4},
        {"type": "GradientCumulativeFp16OptimizerHook", "cumulative_iters": 4},
    ),
]


@pytest.mark.parametrize(("own", "known"), EQUIVALENT)
def test_user_defined_hook_steps_like_the_wrapper(tmp_path: Path, own: Any, known: Any) -> None:
    mine = weights(tmp_path / "own", optimizer_config=own)
    assert torch.allclose(mine, weights(tmp_path / "known", optimizer_config=known), atol=1e-6)


def test_step_uses_the_learning_rate_of_its_iteration(tmp_path: Path) -> None:
    # The schedule has priority VERY_HIGH, so it has changed the learning rate before the hook steps.
    schedule: dict[str, Any] = {
        "runner": {"type": "IterBasedRunner", "max_iters": 12},
        "lr_config": {"policy": "poly", "power": 1.0, "by_epoch": False},
    }
    rates: list[float] = []

    @HOOKS.register_module(force=True)
    class RateRecorder(OptimizerHook):
        def step(self, runner: Any) -> None:
            rates.append(runner.optimizer.param_groups[0]["lr"])
            super().step(runner)

    mine = weights(tmp_path / "own", optimizer_config={"type": "RateRecorder"}, **schedule)
    assert rates == pytest.approx([0.1 * (1 - done / 12) for done in range(12)])
    assert torch.allclose(mine, weights(tmp_path / "plain", optimizer_config={}, **schedule), atol=1e-7)


def test_hook_is_called_once_per_iteration_and_records_the_norm(tmp_path: Path) -> None:
    MyStep.calls = 0
    runner = Runner.from_cfg(old_config(tmp_path, optimizer_config={"type": "MyStep", "grad_clip": CLIP}))
    runner.train()
    assert MyStep.calls == 12
    assert "accumulated_gradients" not in runner.optim_wrapper.state_dict()  # the step has used them
    assert runner.message_hub.get_scalar("train/grad_norm").data[0].shape == (12,)
    line = next(line for line in runner.hooks.describe().splitlines() if line.strip().startswith("after_train_iter"))
    assert "MyStep (ABOVE_NORMAL), CheckpointHook" in line or "MyStep (ABOVE_NORMAL), IterTimerHook" in line


def test_hook_and_wrapper_that_both_step_raise(tmp_path: Path) -> None:
    runner = Runner.from_cfg(old_config(tmp_path, custom_hooks=[{"type": "OptimizerHook"}]))
    with pytest.raises(ArgumentError, match=r"both OptimizerHook and the optimizer wrapper call optimizer\.step\(\)"):
        runner.train()
