from footplate.hooks.best_checkpoints import BestCheckpoints
from footplate.hooks.monitored_metrics import MonitoredMetric


def test_second_validation_of_an_epoch_does_not_overwrite_better_weights() -> None:
    best, metric = BestCheckpoints(2), MonitoredMetric("acc", "save_best", "greater")
    best.insert(metric, 0.8, "best_acc_epoch_1.pth")
    assert not best.admits(metric, 0.75, "best_acc_epoch_1.pth")
    assert best.admits(metric, 0.85, "best_acc_epoch_1.pth")
    assert best.admits(metric, 0.75, "best_acc_epoch_2.pth")
