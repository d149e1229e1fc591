from footplate.hooks.best_checkpoints import BestCheckpoints
from footplate.hooks.monitored_metrics import MonitoredMetric


def test_second_validation_of_an_epoch_does_not_overwrite_better_weights() -> None:
    best, metric = BestCheckpoints(2), MonitoredMetric("acc", "save_best", "greater")
    best.request(metric, 0.8, "best_acc_epoch_1.pth")
    assert not best.admits(metric, 0.75, "best_acc_epoch_1.pth")
    assert best.admits(metric, 0.85, "best_acc_epoch_1.pth")
    assert best.admits(metric, 0.75, "best_acc_epoch_2.pth")


def test_failed_save_leaves_the_ranking_of_the_saved_checkpoints() -> None:
    best, metric = BestCheckpoints(1), MonitoredMetric("acc", "save_best", "greater")
    best.request(metric, 0.8, "best_acc_epoch_1.pth")
    best.complete("best_acc_epoch_1.pth")
    best.request(metric, 0.9, "best_acc_epoch_2.pth")
    assert best.ranking == {"acc": [{"score": 0.9, "path": "best_acc_epoch_2.pth"}]}
    best.complete("best_acc_epoch_2.pth", is_saved=False)
    assert best.ranking == best.saved == {"acc": [{"score": 0.8, "path": "best_acc_epoch_1.pth"}]}
