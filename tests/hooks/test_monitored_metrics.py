from pathlib import Path

import pytest

from footplate import Runner
from footplate.metric_names import MissingMetricError
from tests.support import Told, settings


def test_missing_metric_lists_all_metrics() -> None:
    error = MissingMetricError("monitor", "mIuO", ["mIoU", "aAcc"], "x")
    assert (error.suggestion, error.notes) == ("mIoU", ("metrics: mIoU, aAcc",))
    assert "val_cfg=dict(loss=True)" in str(MissingMetricError("monitor", "val/loss", ["mIoU"], "x"))


@pytest.mark.parametrize(("metric", "monitor"), [("acc", "acc"), ("acc", "val/acc"), ("val/acc", "val/acc")])
@pytest.mark.parametrize("preflight", [True, False])
def test_metric_can_be_monitored_by_its_name_in_the_log(
    tmp_path: Path, metric: str, monitor: str, preflight: bool
) -> None:
    cfg = settings(
        tmp_path,
        train_cfg={"by_epoch": True, "max_epochs": 5},
        val_evaluator={"type": "Told", "values": {metric: [1.0, 9.0, 2.0, 2.0, 2.0]}},
        param_scheduler={"type": "ReduceOnPlateauLR", "monitor": monitor, "rule": "greater", "patience": 0},
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": monitor, "patience": 2}],
        default_hooks={"checkpoint": {"save_best": monitor}},
        preflight=preflight,
    )
    runner = Runner(**cfg)
    rate = runner.optim_wrapper.get_lr()["lr"][0]
    runner.train()
    assert runner.epoch == 4
    assert runner.optim_wrapper.get_lr()["lr"][0] == pytest.approx(rate / 100)
    assert [path.name for path in tmp_path.glob("best_*")] == [f"best_{metric.replace('/', '_')}_epoch_2.pth"]


class FirstWithout(Told):
    """Returns only `found` from the first validation, like COCO metrics of a detector without predictions."""

    found: dict[str, float] = {}

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        metrics = super().compute_metrics(results)
        return metrics if self.times > 1 or self.context.is_trial else self.found


@pytest.mark.parametrize(("found", "description"), [({}, "no metrics"), ({"detections": 0.0}, "only detections")])
def test_validation_without_the_metric_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, found: dict[str, float], description: str
) -> None:
    evaluator = FirstWithout({"acc": [0.0, 1.0, 1.0]})
    evaluator.found = found
    cfg = settings(
        tmp_path,
        train_cfg={"by_epoch": True, "max_epochs": 3},
        val_evaluator=evaluator,
        param_scheduler={"type": "ReduceOnPlateauLR", "monitor": "acc", "rule": "greater", "patience": 0},
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": "acc", "patience": 2}],
        default_hooks={"checkpoint": {"save_best": "acc"}},
        preflight=True,
    )
    runner = Runner(**cfg)
    rate = runner.optim_wrapper.get_lr()["lr"][0]
    runner.train()
    assert runner.epoch == 3
    assert runner.optim_wrapper.get_lr()["lr"][0] == pytest.approx(rate / 10)
    assert [path.name for path in tmp_path.glob("best_*")] == ["best_acc_epoch_2.pth"]
    assert f"Validation returned {description}, so no value of 'acc' is available." in caplog.messages
