from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError, BuildError
from footplate.first_generation.adapters import policy_hooks as hooks


def rates(hook: Any, epochs: int = 4, length: int = 2) -> list[float]:
    """Returns the learning rate of each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    runner = SimpleNamespace(
        optimizer=optimizer, max_epochs=epochs, max_iters=epochs * length, iter=0, data_loader=[0] * length
    )
    hook.before_run(runner)
    found = []
    for runner.epoch in range(epochs):
        hook.before_train_epoch(runner)
        hook.before_train_iter(runner)
        found.append(optimizer.param_groups[0][hook.field])
        runner.iter += length
    return found


def test_annealing() -> None:
    assert hooks.annealing_cos(1, 0, 0.5) == pytest.approx(0.5)
    assert hooks.annealing_cos(1, 0, 0, weight=0.5) == 0.5
    assert hooks.annealing_linear(1, 3, 0.25) == 1.5


def test_steps() -> None:
    hook = hooks.StepLrUpdaterHook(step=[1, 3], gamma=0.5)
    assert rates(hook) == [0.1, 0.05, 0.05, 0.025]
    assert (hook.step, hook.gamma, hook.min_lr) == ([1, 3], 0.5, None)
    assert rates(hooks.StepLrUpdaterHook([2], warmup="constant", warmup_iters=2)) == pytest.approx(
        [0.01, 0.1, 0.01, 0.01]
    )


def test_cosine_by_epoch_and_by_iteration() -> None:
    expected = [0.1, 0.08535534, 0.05, 0.01464466]
    assert rates(hooks.CosineAnnealingLrUpdaterHook(min_lr=0)) == pytest.approx(expected)
    assert rates(hooks.CosineAnnealingLrUpdaterHook(min_lr=0, by_epoch=False)) == pytest.approx(expected)


def test_momentum() -> None:
    assert rates(hooks.StepMomentumUpdaterHook(step=2)) == [0.9, 0.9, 0.45, 0.45]


def test_subclasses_read_the_settings() -> None:
    class Halved(hooks.CosineAnnealingLrUpdaterHook):  # type: ignore[misc]
        def get_lr(self, runner: Any, base_lr: float) -> float:
            assert self.min_lr_ratio == 0.1
            return hooks.annealing_cos(base_lr, base_lr * float(self.min_lr_ratio), 1)

    assert rates(Halved(min_lr_ratio=0.1)) == pytest.approx([0.01] * 4)


def test_invalid_settings() -> None:
    with pytest.raises(ArgumentError, match="accepts only one value for each of gamma"):
        hooks.ExpLrUpdaterHook(0.5, gamma=0.5)
    with pytest.raises(BuildError, match="needs the argument 'gamma'"):
        rates(hooks.ExpLrUpdaterHook())
