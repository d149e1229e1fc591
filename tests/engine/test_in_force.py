import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.errors import origin_of
from tests.support import loader, settings


def resumed(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], **changes: Any) -> tuple[Config, Runner]:
    """Returns the config of a run that goes on from one with other settings, and its runner."""
    cfgs = [
        Config(
            settings(
                tmp_path,
                by_epoch=False,
                train_dataloader=loader(),
                optim_wrapper=wrapper,
                default_hooks={"checkpoint": {"by_epoch": False, "interval": 2}},
                **copy.deepcopy(changes),
            )
        )
        for wrapper in (first, second)
    ]
    Runner.from_cfg(cfgs[0]).train()
    cfgs[1]["resume"] = True
    newest = max(tmp_path.glob("iter_*.pth"), key=lambda path: int(path.stem.rpartition("_")[2]))
    newest.unlink()
    runner = Runner.from_cfg(cfgs[1])
    runner.train()
    return cfgs[1], runner


def sgd(lr: float, **more: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "SGD", "lr": lr, **more}}


@pytest.mark.parametrize("schedule", [None, {"type": "LinearLR", "start_factor": 0.5, "end": 4, "by_epoch": False}])
def test_the_config_of_record_holds_what_is_in_force(tmp_path: Path, schedule: Any) -> None:
    cfg, runner = resumed(tmp_path, sgd(0.2, weight_decay=0.5), sgd(0.1, momentum=0.9), param_scheduler=schedule)
    assert cfg.optim_wrapper.optimizer.lr == 0.1
    kept = runner.cfg.optim_wrapper.optimizer
    assert (kept.lr, kept.weight_decay, kept.momentum) == (0.2, 0.5, 0.0)
    assert str(origin_of(kept, "lr")) == "the resumed checkpoint"


def test_groups_that_are_multiples_go_by_the_one_that_is_not(tmp_path: Path) -> None:
    keys = {"paramwise_cfg": {"bias_lr_mult": 0.1}}
    _, runner = resumed(tmp_path, {**sgd(0.2), **keys}, {**sgd(0.1), **keys})
    assert runner.cfg.optim_wrapper.optimizer.lr == 0.2


def test_a_scaled_rate_is_written_as_it_was_before_it_is_scaled(tmp_path: Path) -> None:
    scaled = {"enable": True, "base_batch_size": 8}
    _, runner = resumed(tmp_path, sgd(0.001), sgd(0.003), auto_scale_lr=scaled)
    assert runner.cfg.optim_wrapper.optimizer.lr == 0.001


def test_what_no_number_says_stays_with_its_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = {**sgd(0.2), "paramwise_cfg": {"bias_lr_mult": 0.1}}
    with caplog.at_level(logging.WARNING, "footplate"):
        _, runner = resumed(tmp_path, first, {**sgd(0.1), "paramwise_cfg": {"bias_lr_mult": 0.5}})
    assert runner.cfg.optim_wrapper.optimizer.lr == 0.2
    told = [each for each in caplog.messages if "does not count" in each]
    assert [each.partition(":")[0] for each in told] == [
        "the config's lr 0.05 does not count",
        "the config's lr 0.1 does not count",
    ]
