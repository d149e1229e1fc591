"""A resumed run reports which optimizer settings of its config or its checkpoint it uses."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from footplate import Config
from footplate.engine import Runner
from footplate.error_context import origin_of
from tests.support import loader, settings


def resumed(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], **changes: Any) -> tuple[Config, Runner]:
    """Returns the config of a run that resumes from a run with other settings, and its runner."""
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
def test_recorded_config_has_saved_settings(tmp_path: Path, schedule: Any) -> None:
    cfg, runner = resumed(tmp_path, sgd(0.2, weight_decay=0.5), sgd(0.1, momentum=0.9), param_scheduler=schedule)
    assert cfg.optim_wrapper.optimizer.lr == 0.1
    kept = runner.cfg.optim_wrapper.optimizer
    assert (kept.lr, kept.weight_decay, kept.momentum) == (0.2, 0.5, 0.0)
    assert str(origin_of(kept, "lr")) == "the resumed checkpoint"


def test_scaled_rate_is_recorded_unscaled(tmp_path: Path) -> None:
    scaled = {"enable": True, "base_batch_size": 8}
    _, runner = resumed(tmp_path, sgd(0.001), sgd(0.003), auto_scale_lr=scaled)
    assert runner.cfg.optim_wrapper.optimizer.lr == 0.001


def adam(**more: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "AdamW", "lr": 0.1, **more}}


def adafactor(**more: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "Adafactor", "lr": 0.1, **more}}


CHANGED = [
    (adam, {"betas": (0.9, 0.99)}, {"betas": [0.8, 0.99]}, "betas (0.8, 0.99)", "(0.9, 0.99)"),
    (adam, {}, {"maximize": True}, "maximize True", "False"),
    (sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.1, "momentum": 0.9}, "nesterov False", "True"),
    (adafactor, {"eps": (1e-30, 1e-3)}, {}, "eps (None, 0.001)", "(1e-30, 0.001)"),
]


@pytest.mark.parametrize(("build", "first", "second", "now", "then"), CHANGED)
def test_each_replaced_setting_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, build: Any, first: Any, second: Any, now: str, then: str
) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        _, runner = resumed(tmp_path, build(**first), build(**second))

    said = [each for each in caplog.messages if "Ignoring the config's" in each]
    assert len(said) == 1
    assert said[0].startswith(f"Ignoring the config's {now} and resuming with the saved {then}.")
    field = now.partition(" ")[0]
    kept = runner.cfg.optim_wrapper.optimizer.get(field)
    assert kept == runner.optim_wrapper.param_groups[0][field]


@pytest.mark.parametrize("wrapper", [adam(betas=[0.9, 0.99], fused=None)])
@pytest.mark.parametrize(
    "schedule",
    [None, [{"type": "LinearLR", "by_epoch": False}, {"type": "PolyMomentum", "by_epoch": False, "eta_min": 0.5}]],
)
def test_unchanged_settings_log_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrapper: Any, schedule: Any
) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        resumed(tmp_path, wrapper, wrapper, param_scheduler=schedule)

    assert not [each for each in caplog.messages if "Ignoring the config's" in each]
