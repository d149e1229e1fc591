from collections.abc import Callable

import pytest

from footplate.config import Config
from footplate.errors import UnknownNameError
from footplate.tools.topics.hooks import explain_hooks, hooks_as_data


def test_hooks_stand_in_the_order_of_their_priorities(write: Callable[..., Config]) -> None:
    cfg = write("custom_hooks = [dict(type='EMAHook', priority='HIGH'), dict(type='EmptyCacheHook', priority=77)]")
    text = explain_hooks(cfg)
    line = next(line for line in text.splitlines() if line.startswith("  after_train_epoch"))
    assert line.split(maxsplit=1)[1] == "ParamSchedulerHook (LOW), EmptyCacheHook (77), CheckpointHook (last)"
    acting = hooks_as_data(cfg)["events"]["after_train_epoch"]
    assert acting[1] == {"hook": "EmptyCacheHook", "priority": "77"}


def test_hooks_of_packages_that_are_not_installed_are_named(write: Callable[..., Config]) -> None:
    cfg = write("custom_hooks = [dict(type='mmyolo.SomethingElseAltogether')]")
    assert explain_hooks(cfg).endswith("not installed, so not shown: mmyolo.SomethingElseAltogether\n")
    assert hooks_as_data(cfg)["not_installed"] == ["mmyolo.SomethingElseAltogether"]


def test_a_near_miss_is_an_error(write: Callable[..., Config]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'EMAHook'"):
        explain_hooks(write("custom_hooks = [dict(type='EMAHok')]"))


def test_the_first_generation_has_its_own_priorities(write: Callable[..., Config]) -> None:
    cfg = write(
        "model = dict(type='X')\noptimizer = dict(type='SGD', lr=0.1)\nlr_config = dict(policy='step', step=[2])\n"
        "runner = dict(type='EpochBasedRunner', max_epochs=3)\ncheckpoint_config = dict(interval=1)\n",
        base="",
    )
    acting = hooks_as_data(cfg)["events"]["after_train_iter"]
    assert [each["hook"] for each in acting][:2] == ["RuntimeInfoHook", "ParamSchedulerHook"]
    assert acting[1]["priority"] == "VERY_HIGH"
    assert acting[-1] == {"hook": "CheckpointHook", "priority": "last"}
