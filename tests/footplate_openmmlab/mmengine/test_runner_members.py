"""The members of MMEngine's Runner that footplate adds to its own."""

from pathlib import Path
from typing import Any

import pytest

import footplate_openmmlab as openmmlab
from footplate import Config, Runner
from footplate.hooks import IterTimerHook
from tests.support import settings


@pytest.fixture(autouse=True)
def installed() -> None:
    openmmlab.install()


def build(tmp_path: Path, **changes: Any) -> Any:
    return Runner.from_cfg(Config(settings(tmp_path, **changes)))


def test_properties_and_private_names(tmp_path: Path) -> None:
    runner = build(tmp_path, randomness={"seed": 4}, auto_scale_lr={"enable": False})
    assert (runner.launcher, runner.model_name, runner.distributed) == ("none", "ToyModel", False)
    assert (runner.val_interval, runner.val_begin, runner.deterministic) == (1, 1, False)
    assert runner.val_evaluator is runner.val_loop.evaluator
    assert (runner.default_scope, runner.auto_scale_lr) == (None, {"enable": False})
    assert (runner._hooks, runner._seed, runner._train_loop) == (runner.hooks, 4, runner.train_loop)
    assert runner._randomness_cfg.get("diff_rank_seed", False) is False
    runner._train_loop = {"by_epoch": False, "max_iters": 7}
    assert runner.train_loop.max_iters == 7
    runner._load_from = "weights.pth"
    assert runner.resume_plan.load_from == "weights.pth"
    assert runner.get_hooks_info() == runner.hooks.describe()


def test_default_hooks_may_be_registered_later(tmp_path: Path) -> None:
    changes = dict.fromkeys(("timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"))
    runner = build(tmp_path, default_hooks=changes)
    before = list(runner.hooks)
    runner.register_default_hooks({**changes, "timer": {"type": "IterTimerHook"}})
    assert [type(hook).__name__ for hook in runner.hooks if hook not in before] == ["IterTimerHook"]


def test_hooks_may_be_registered_later(tmp_path: Path) -> None:
    changes = dict.fromkeys(("timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"))
    runner = build(tmp_path, default_hooks=changes)
    before = list(runner.hooks)
    runner.register_hooks(changes, [{"type": "EmptyCacheHook", "priority": "LOWEST"}, IterTimerHook()])
    assert [type(hook).__name__ for hook in runner.hooks if hook not in before] == ["IterTimerHook", "EmptyCacheHook"]
