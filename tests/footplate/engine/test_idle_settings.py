"""Settings that can never take effect are reported with their key and origin."""

import logging
from pathlib import Path
from typing import Any

import pytest

from footplate import Config
from footplate.engine import Runner
from footplate.engine.plan.idle_settings import warn_about_variables
from footplate.engine.plan.plan import second_generation
from footplate.engine.values.hook import Hook
from footplate.registry import HOOKS
from footplate.tools.overrides import apply_overrides
from tests.support import settings

NO_VALIDATION: dict[str, Any] = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
STOPPING: dict[str, Any] = {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "loss"}]}
PLATEAU: dict[str, Any] = {"param_scheduler": {"type": "ReduceOnPlateauLR", "monitor": "loss"}}
SECONDS: dict[str, Any] = {"custom_hooks": [{"type": "SavesEveryMinute", "interval": 60}]}
IDLE = [
    (NO_VALIDATION | PLATEAU, "param_scheduler has no effect where a schedule needs a metric"),
    (
        NO_VALIDATION | STOPPING,
        "custom_hooks[0].monitor has no effect: it needs a metric, but the run has no validation",
    ),
]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


@pytest.mark.parametrize(("changes", "said"), IDLE)
def test_run_logs_an_idle_setting_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: Any, said: str
) -> None:
    with caplog.at_level(logging.WARNING):
        Runner.from_cfg(Config(settings(tmp_path, **changes))).train()

    assert [each[: len(said)] for each in warnings_of(caplog) if each.startswith(said)] == [said]


@HOOKS.register_module(force=True)
class SavesEveryMinute(Hook):
    def __init__(self, interval: float) -> None:
        self.interval = interval  # in seconds


@pytest.mark.parametrize(
    "changes",
    [STOPPING | {"val_evaluator": {"type": "Told", "values": {"loss": [1.0, 1.0, 1.0]}}}, {}, {"val_cfg": {}}, SECONDS],
)
def test_setting_with_effect_logs_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: Any) -> None:
    with caplog.at_level(logging.WARNING):
        Runner.from_cfg(Config(settings(tmp_path, **changes))).train()

    assert not warnings_of(caplog)


@pytest.mark.parametrize("dataset", ["{0}", "dict(type='RepeatDataset', times=2, dataset={0})"])
def test_warning_contains_the_keys_of_a_first_generation_config(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dataset: str
) -> None:
    inner = "dict(type='CocoDataset', pipeline=train_pipeline)"
    (tmp_path / "run.py").write_text(
        "model, work_dir = dict(type='A'), 'work'\noptimizer = dict(type='SGD', lr=0.1)\ntotal_epochs = 1\n"
        "train_pipeline = [dict(type='Resize', img_scale=(160, 120))]\n"
        f"data = dict(samples_per_gpu=2, train={dataset.format(inner)})\n"
    )
    cfg = Config.fromfile(tmp_path / "run.py")
    apply_overrides(cfg, ["train_pipeline.0.img_scale=(96,96)"])
    key = f"data.train{'.dataset' * ('Repeat' in dataset)}.pipeline[0].img_scale"
    warn_about_variables(second_generation(cfg))
    assert [each.partition("; ")[2] for each in warnings_of(caplog)] == [
        f"set {key} instead, or change the variable in {tmp_path / 'run.py'}:4"
    ]

    caplog.clear()
    cfg = Config.fromfile(tmp_path / "run.py")
    apply_overrides(cfg, [f"{key}=(96,96)"])
    warn_about_variables(second_generation(cfg))
    assert not warnings_of(caplog)
