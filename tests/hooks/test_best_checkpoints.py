from pathlib import Path

import pytest

from footplate.hooks.best_checkpoints import BestCheckpoints
from footplate.hooks.monitored_metrics import MonitoredMetric


def test_second_validation_of_an_epoch_does_not_overwrite_better_weights() -> None:
    best, metric = BestCheckpoints(2), MonitoredMetric("acc", "save_best", "greater")
    best.insert(metric, 0.8, "best_acc_epoch_1.pth")
    assert not best.admits(metric, 0.75, "best_acc_epoch_1.pth")
    assert best.admits(metric, 0.85, "best_acc_epoch_1.pth")
    assert best.admits(metric, 0.75, "best_acc_epoch_2.pth")


def test_missing_file_is_reported_when_a_run_is_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    best = BestCheckpoints(2)
    for score, name in ((0.9, "gone.pth"), (0.8, "kept.pth")):
        best.insert(MonitoredMetric("acc", "save_best"), score, str(tmp_path / "old" / name))
    (tmp_path / "kept.pth").touch()
    best.relocate(str(tmp_path))
    missing = tmp_path / "old/gone.pth"
    assert best.paths() == [str(missing)]
    assert caplog.messages == [
        f"The best checkpoint '{missing}' (acc: 0.9) is missing. New checkpoints are still compared with it."
    ]
