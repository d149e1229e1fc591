from footplate.hooks.monitored_metrics import MissingMetricError


def test_missing_metric_lists_all_metrics() -> None:
    error = MissingMetricError("monitor", "mIuO", ["mIoU", "aAcc"], "x")
    assert (error.suggestion, error.notes) == ("mIoU", ("metrics: mIoU, aAcc",))
