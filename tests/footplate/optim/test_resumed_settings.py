"""A resumed run reports which optimizer settings of its config or its checkpoint it uses."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from footplate import Config
from footplate.engine import Runner
from tests.support import loader, settings


def resume(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], **changes: Any) -> None:
    """Resumes a run with other settings."""
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
    Runner.from_cfg(cfgs[1]).train()


def sgd(lr: float, **more: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "SGD", "lr": lr, **more}}


def adam(**more: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "AdamW", "lr": 0.1, **more}}


CHANGED = [
    (sgd, {"lr": 0.2}, {"lr": 0.1}, "lr 0.1", "0.2"),
    (adam, {"betas": (0.9, 0.99)}, {"betas": [0.8, 0.99]}, "betas (0.8, 0.99)", "(0.9, 0.99)"),
    (sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.1, "momentum": 0.9}, "nesterov False", "True"),
]


@pytest.mark.parametrize(("build", "first", "second", "now", "then"), CHANGED)
def test_each_replaced_setting_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, build: Any, first: Any, second: Any, now: str, then: str
) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        resume(tmp_path, build(**first), build(**second))

    said = [each for each in caplog.messages if "Ignoring the new" in each]
    assert len(said) == 1
    assert said[0].startswith(f"Ignoring the new {now} and resuming with the saved {then}.")


@pytest.mark.parametrize(
    "schedule",
    [None, [{"type": "LinearLR", "by_epoch": False}, {"type": "PolyMomentum", "by_epoch": False, "eta_min": 0.5}]],
)
def test_unchanged_settings_log_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, schedule: Any) -> None:
    wrapper = adam(betas=[0.9, 0.99], fused=None)
    with caplog.at_level(logging.WARNING, "footplate"):
        resume(tmp_path, wrapper, wrapper, param_scheduler=schedule)

    assert not [each for each in caplog.messages if "Ignoring the new" in each]


@pytest.mark.parametrize(
    ("kind", "old", "new", "shown"),
    [
        ("ExponentialLR", {"gamma": 0.5}, {"gamma": 0.9}, "gamma=0.9"),
        ("MultiStepLR", {"milestones": (3, 6)}, {"milestones": (7, 9)}, "milestones=[7, 9]"),
        ("CosineAnnealingLR", {}, {"T_max": 20}, "T_max=20"),
    ],
)
def test_changed_settings_of_a_schedule_are_logged_and_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, old: Any, new: Any, shown: str
) -> None:
    cfg = settings(tmp_path, param_scheduler={"type": kind, **old})
    Runner(**{**cfg, "train_cfg": {"max_epochs": 1}}).train()
    Runner(**{**cfg, "param_scheduler": {"type": kind, **new}, "resume": True}).train()
    assert [message for message in caplog.messages if "Changed: " in message] == [
        f"The schedules in the config ({kind}, at iteration 4) differ from those in the checkpoint "
        f"({kind}, at iteration 4). Using the schedules in the config, fast-forwarded to the current iteration. "
        f"Changed: {shown}."
    ]
