import math

import pytest

from footplate.metric_names import is_better, order_metrics


@pytest.mark.parametrize(
    ("value", "than", "rule", "by", "better"),
    [
        (2.0, 1.0, "greater", 0.0, True),
        (1.2, 1.0, "greater", 0.5, False),
        (1.8, 2.0, "less", 0.5, False),
        (math.nan, 1.0, "greater", 0.0, False),
    ],
)
def test_rule_of_known_metrics(value: float, than: float, rule: str, by: float, better: bool) -> None:
    assert is_better(value, than, rule, by) is better


def test_metrics_of_save_best_come_first() -> None:
    names = ["aAcc", "night/mIoU", "night/IoU.T-shirt/top", "IoU.dress", "top.5", "mPrecision", "Precision.trouser"]
    assert order_metrics(names) == ["aAcc", "night/mIoU", "IoU.dress", "top.5", "mPrecision"]  # there is no mean of IoU
    boxes = [
        "coco/bbox_mAP",
        "coco/T-shirt/top_precision",
        "coco/segm_dress_precision",
        "night/dress_precision",
        "precision",
    ]
    assert order_metrics(boxes) == [
        "coco/bbox_mAP",
        "night/dress_precision",
        "precision",
    ]  # there is no mean of `night`
    assert order_metrics(["single-label/support", "single-label/f1-score"]) == ["single-label/f1-score"]
    assert order_metrics(names, ["auto", "Precision.trouser", "mPrecision"])[:3] == [
        "Precision.trouser",
        "mPrecision",
        "aAcc",
    ]
