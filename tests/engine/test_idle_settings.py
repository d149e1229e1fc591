"""Settings that can never take effect are reported with their key and origin."""

import logging
from pathlib import Path
from typing import Any

import pytest

from footplate import Config
from footplate.engine import Runner
from footplate.errors import ArgumentError
from tests.support import settings

NO_VALIDATION: dict[str, Any] = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
STOPPING: dict[str, Any] = {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "loss"}]}
BEST = {"default_hooks": {"checkpoint": {"save_best": "loss"}}}
PLATEAU: dict[str, Any] = {"param_scheduler": {"type": "ReduceOnPlateauLR", "monitor": "loss"}}
IDLE = [
    (NO_VALIDATION | PLATEAU, "param_scheduler has no effect: it needs a metric, but the run has no"),
    (
        NO_VALIDATION | STOPPING,
        "custom_hooks[0].monitor has no effect: it needs a metric, but the run has no validation",
    ),
    ({"loss": {"type": "MSELoss"}}, "loss has no effect: it is an argument of Runner(...). In a config, derive"),
    (NO_VALIDATION | BEST, "default_hooks.checkpoint.save_best has no effect: it needs a metric, but the run"),
]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "has no effect" in each.getMessage()]


@pytest.mark.parametrize(("changes", "said"), IDLE)
def test_run_logs_an_idle_setting_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: Any, said: str
) -> None:
    with caplog.at_level(logging.WARNING):
        Runner.from_cfg(Config(settings(tmp_path, **changes))).train()

    assert [each[: len(said)] for each in warnings_of(caplog) if each.startswith(said)] == [said]


@pytest.mark.parametrize(
    "changes",
    [STOPPING | {"val_evaluator": {"type": "Told", "values": {"loss": [1.0, 1.0, 1.0]}}}, {}, {"val_cfg": {}}],
)
def test_setting_with_effect_logs_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: Any) -> None:
    with caplog.at_level(logging.WARNING):
        Runner.from_cfg(Config(settings(tmp_path, **changes))).train()

    assert not warnings_of(caplog)


def test_preflight_raises_for_a_schedule_with_a_missing_metric(tmp_path: Path) -> None:
    plateau = {"type": "ReduceOnPlateauLR", "monitor": "accurary"}
    with pytest.raises(ArgumentError, match="monitor selects the metric 'accurary', which") as caught:
        Runner.from_cfg(settings(tmp_path, preflight=True, param_scheduler=plateau)).train()

    assert caught.value.suggestion == "accuracy"
