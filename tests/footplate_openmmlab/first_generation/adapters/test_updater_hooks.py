from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.optim import OptimWrapper
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters import Hook
from footplate_openmmlab.first_generation.adapters.updater_hooks import LrUpdaterHook, MomentumUpdaterHook
from tests.footplate_openmmlab.first_generation.adapters.support import old_config


@HOOKS.register_module()
class FallLrUpdaterHook(LrUpdaterHook):
    """The policy poly with power 1 as a user-defined hook."""

    def get_lr(self, runner: Any, base_lr: float) -> float:
        done, whole = (runner.epoch, runner.max_epochs) if self.by_epoch else (runner.iter, runner.max_iters)
        return float(base_lr * (1 - done / whole))


@HOOKS.register_module()
class FallMomentumUpdaterHook(MomentumUpdaterHook):
    def get_momentum(self, runner: Any, base_momentum: float) -> float:
        done, whole = (runner.epoch, runner.max_epochs) if self.by_epoch else (runner.iter, runner.max_iters)
        return float(base_momentum * (1 - done / whole))


class Rates(Hook):
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.momenta: list[float] = []
        self.logged: list[float] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.seen.append(runner.current_lr()[0])
        self.momenta.append(runner.current_momentum()[0])
        self.logged.append(runner.message_hub.get_scalar("train/lr").current())


def rates(tmp_path: Path, **changes: Any) -> Rates:
    hook = Rates()
    Runner.from_cfg(old_config(tmp_path, custom_hooks=[hook], **changes)).train()
    return hook


WARMUPS: list[tuple[bool, dict[str, Any]]] = [
    (True, {"warmup": "linear", "warmup_iters": 1, "warmup_ratio": 0.1, "warmup_by_epoch": True}),
    (True, {"warmup": "linear", "warmup_iters": 1.375, "warmup_ratio": 0.1, "warmup_by_epoch": True}),  # 5.5 iterations
    (False, {"warmup": "exp", "warmup_iters": 6, "warmup_ratio": 0.01}),
]


@pytest.mark.parametrize(("by_epoch", "warmup"), WARMUPS)
def test_user_defined_policy_equals_the_built_in_policy(tmp_path: Path, warmup: dict[str, Any], by_epoch: bool) -> None:
    own = rates(tmp_path / "own", lr_config={"policy": "fall", "by_epoch": by_epoch, **warmup})
    poly = rates(tmp_path / "poly", lr_config={"policy": "poly", "power": 1.0, "by_epoch": by_epoch, **warmup})
    assert own.seen == pytest.approx(poly.seen, rel=1e-9)
    assert own.logged == own.seen
    assert len(set(own.seen)) > 2


def test_resumed_run_uses_the_rates_of_the_config(tmp_path: Path) -> None:
    policy = {"policy": "fall", "by_epoch": False}
    whole = rates(tmp_path / "whole", lr_config=policy)
    Runner.from_cfg(old_config(tmp_path / "parts", lr_config=policy, runner={"max_epochs": 3})).train()
    hook = Rates()
    changes: dict[str, Any] = {"resume_from": str(tmp_path / "parts/epoch_2.pth"), "custom_hooks": [hook]}
    Runner.from_cfg(old_config(tmp_path / "again", lr_config=policy, **changes)).train()
    assert hook.seen == whole.seen[8:]


def rates_by_epoch(hook: Any, epochs: int = 4, length: int = 2) -> list[float]:
    """Returns the learning rate of each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    wrapper = OptimWrapper(optimizer)
    runner = SimpleNamespace(
        optim_wrapper=wrapper, max_epochs=epochs, max_iters=epochs * length, iter=0, data_loader=[0] * length
    )
    hook.before_run(runner)
    found = []
    for runner.epoch in range(epochs):
        hook.before_train_epoch(runner)
        hook.before_train_iter(runner)
        found.append(optimizer.param_groups[0][hook.field])
        runner.iter += length
    return found


class AfterIterations(LrUpdaterHook):
    """Stores and sets the rates itself, with the methods of mmcv's base class."""

    def before_run(self, runner: Any) -> None:
        self.base_lr = [2 * group["lr"] for group in runner.optimizer.param_groups]
        self.regular_lr = self.base_lr

    def before_train_epoch(self, runner: Any) -> None:
        pass

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self._set_lr(runner, self.get_warmup_lr(runner.iter) if runner.iter < 2 else self.base_lr)


def test_a_subclass_may_store_and_set_the_rates_itself() -> None:
    hook = AfterIterations(warmup="linear", warmup_iters=2, warmup_ratio=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    runner = SimpleNamespace(optim_wrapper=OptimWrapper(optimizer), optimizer=optimizer, iter=0)
    hook.before_run(runner)
    found = []
    for runner.iter in range(4):
        hook.before_train_iter(runner)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([0.2, 1.1, 2.0, 2.0])
    assert hook.base_lr == [2.0]


class HalvedWarmup(FallLrUpdaterHook):
    def get_warmup_lr(self, cur_iters: int) -> list[float]:
        return [rate / 2 for rate in self.regular_lr]


def test_a_subclass_may_override_the_warm_up() -> None:
    hook = HalvedWarmup(by_epoch=False, warmup="linear", warmup_iters=2)
    assert rates_by_epoch(hook) == pytest.approx([0.05, 0.075, 0.05, 0.025])
