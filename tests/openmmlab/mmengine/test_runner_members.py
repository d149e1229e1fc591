"""The members of MMEngine's Runner that footplate adds to its own."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Hook, Runner, openmmlab
from footplate.records import MessageHub
from tests.support import settings


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    openmmlab.install()
    yield
    openmmlab.uninstall()


def build(tmp_path: Path, **changes: Any) -> Any:
    return Runner.from_cfg(Config(settings(tmp_path, **changes)))


def test_properties_and_private_names(tmp_path: Path) -> None:
    runner = build(tmp_path, randomness={"seed": 4}, auto_scale_lr={"enable": False})
    assert (runner.launcher, runner.model_name, runner.distributed) == ("none", "ToyModel", False)
    assert (runner.val_interval, runner.val_begin, runner.deterministic) == (1, 1, False)
    assert runner.val_evaluator is runner.val_loop.evaluator
    assert (runner.default_scope, runner.auto_scale_lr) == (None, {"enable": False})
    assert (runner._hooks, runner._seed, runner._train_loop) == (runner.hooks, 4, runner.train_loop)
    runner._load_from = "weights.pth"
    assert runner.resume_plan.load_from == "weights.pth"
    assert runner.get_hooks_info() == runner.hooks.describe()


def test_config_can_be_dumped(tmp_path: Path) -> None:
    cfg = Config(settings(tmp_path), filename=str(tmp_path / "written.yaml"))
    runner: Any = Runner.from_cfg(cfg)
    runner.dump_config()
    assert Config.fromfile(tmp_path / "written.py").work_dir == str(tmp_path)


def test_logger_and_message_hub(tmp_path: Path) -> None:
    runner = build(tmp_path)
    assert runner.build_message_hub() is runner.message_hub
    assert runner.build_message_hub({"name": "another"}) is MessageHub.get_instance("another")
    assert runner.build_logger("ERROR", str(tmp_path / "more.log")).level == logging.ERROR
    runner.logger.error("written")
    assert "written" in (tmp_path / "more.log").read_text()


def test_hooks_are_registered_by_lists(tmp_path: Path) -> None:
    class Last(Hook):
        priority = "LOWEST"

    none = dict.fromkeys(("timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"))
    runner = build(tmp_path, default_hooks=none, custom_hooks=[])
    before = len(runner.hooks)
    runner.register_hooks({**none, "runtime_info": None, "timer": {"type": "IterTimerHook"}}, [Last()])
    runner.register_custom_hooks([{"type": "EmptyCacheHook"}])
    assert [type(hook).__name__ for hook in runner.hooks if type(hook).__name__ != "NonFiniteHook"] == [
        "RuntimeInfoHook",
        "IterTimerHook",
        "EmptyCacheHook",
        "Last",
    ]
    assert len(runner.hooks) == before + 3
