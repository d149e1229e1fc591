from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from tests.support import settings


def test_a_part_is_built_when_it_is_first_asked_for_and_once(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    names = ("train_loop", "val_loop", "test_loop", "optim_wrapper", "param_schedulers")
    assert not set(names) & set(vars(runner))
    for name in names:
        assert getattr(runner, name) is getattr(runner, name)
        assert name in vars(runner)


def test_how_far_a_run_is_builds_nothing(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    assert (runner.iter, runner.epoch, runner.by_epoch) == (0, 0, True)
    assert "train_loop" not in vars(runner)
    assert (runner.max_iters, runner.max_epochs) == (12, 3)
    assert "train_loop" in vars(runner)


def test_loaders_are_those_of_the_loops(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    assert runner.train_dataloader is runner.train_loop.dataloader
    assert runner.val_loop is not None
    assert runner.val_dataloader is runner.val_loop.dataloader
    assert len(runner.test_dataloader) == 2


def test_what_the_config_has_not_is_none(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, val_cfg=None, val_dataloader=None, val_evaluator=None))
    assert (runner.val_loop, runner.val_dataloader) == (None, None)


@pytest.mark.parametrize(
    ("key", "ask"),
    [
        ("train_dataloader", lambda runner: runner.train_loop),
        ("train_cfg", lambda runner: runner.train_loop),
        ("optim_wrapper", lambda runner: runner.optim_wrapper),
    ],
)
def test_what_training_needs_is_named(tmp_path: Path, key: str, ask: Any) -> None:
    sections = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
    runner = Runner(**{**settings(tmp_path), **dict.fromkeys(sections)})
    runner._sections.update({each: settings(tmp_path)[each] for each in sections if each != key})
    with pytest.raises(ArgumentError, match=f"training needs '{key}'") as caught:
        ask(runner)
    assert caught.value.key == key
