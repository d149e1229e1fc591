from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.metric_names import MissingMetricError
from tests.support import Told, settings


def test_missing_metric_lists_all_metrics() -> None:
    error = MissingMetricError("monitor", "mIuO", ["mIoU", "aAcc"], "x")
    assert (error.suggestion, error.notes) == ("mIoU", ("metrics: mIoU, aAcc",))
    assert MissingMetricError("monitor", "val_a/iuo", ["val_a/iou", "val_b/iou"], "x").suggestion == "val_a/iou"
    assert MissingMetricError("monitor", "acc", ["mAcc", "edge/acc"], "x").suggestion == "edge/acc"
    assert "val_cfg=dict(loss=True)" in str(MissingMetricError("monitor", "val/loss", ["mIoU"], "x"))


def monitoring(folder: Path, monitor: str, **changes: Any) -> tuple[Runner, float]:
    """Trains with three components that monitor a metric, and returns the factor between the learning rates."""
    cfg = settings(
        folder,
        train_cfg={"by_epoch": True, "max_epochs": 5},
        param_scheduler={"type": "ReduceOnPlateauLR", "monitor": monitor, "rule": "greater", "patience": 0},
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": monitor, "patience": 2}],
        default_hooks={"checkpoint": {"save_best": monitor}},
        **changes,
    )
    runner = Runner(**cfg)
    rate = runner.optim_wrapper.get_lr()["lr"][0]
    runner.train()
    return runner, runner.optim_wrapper.get_lr()["lr"][0] / rate


@pytest.mark.parametrize(("metric", "monitor"), [("acc", "acc"), ("acc", "val/acc"), ("val/acc", "val/acc")])
@pytest.mark.parametrize("preflight", [True, False])
def test_metric_can_be_monitored_by_its_name_in_the_log(
    tmp_path: Path, metric: str, monitor: str, preflight: bool
) -> None:
    evaluator = Told({metric: [1.0, 9.0, 2.0, 2.0, 2.0]})
    runner, factor = monitoring(tmp_path, monitor, val_evaluator=evaluator, preflight=preflight)
    assert runner.epoch == 4
    assert factor == pytest.approx(0.01)
    assert [path.name for path in tmp_path.glob("best_*")] == [f"best_{metric.replace('/', '_')}_epoch_2.pth"]


class OnceWithout(Told):
    """Returns only `found` from validation number `at`, like COCO metrics of a detector without predictions."""

    found: Any = {}
    at = 1

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        metrics = super().compute_metrics(results)
        return metrics if self.times != self.at or self.context.is_trial else self.found


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("found", [{}, {"detections": 0.0}])
def test_validation_without_the_metric_is_skipped(tmp_path: Path, caplog: Any, at: int, found: Any) -> None:
    evaluator = OnceWithout({"acc": [0.0, 1.0, 2.0, 2.0, 3.0]})
    evaluator.at, evaluator.found = at, found
    runner, factor = monitoring(tmp_path, "acc", val_evaluator=evaluator, preflight=at == 1)
    assert runner.epoch == 5
    assert factor == pytest.approx(0.1)
    assert [path.name for path in tmp_path.glob("best_*")] == ["best_acc_epoch_5.pth"]
    assert f"{'only detections' if found else 'no metrics'}, so no value of 'acc' is available." in caplog.text
