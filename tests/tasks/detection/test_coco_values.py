import math
from typing import Any

import numpy as np
import pytest

from footplate.tasks.detection.metric import Curves, measure, named_values, values_by_category

THRESHOLDS = np.array([0.5, 0.75])


def curves(numbers: tuple[int, ...] = (1, 10, 100)) -> Curves:
    """Two thresholds, one recall, two categories of which the second is never true, four sizes, three numbers.

    Precision of the first category is 0.8 and 0.4 at the thresholds, halved for each size step; recall grows with the
    number.
    """
    precision = np.full((2, 1, 2, 4, 3), -1.0)
    precision[:, 0, 0] = np.array([0.8, 0.4])[:, None, None] / 2.0 ** np.arange(4)[None, :, None]
    recall = np.full((2, 2, 4, 3), -1.0)
    recall[:, 0] = np.array([0.25, 0.5, 1.0])[None, None, :] / 2.0 ** np.arange(4)[None, :, None]
    return Curves(precision, recall, THRESHOLDS, numbers)


def test_values_have_the_fields_names_and_leave_out_what_is_never_true() -> None:
    found = named_values(curves())
    assert found == pytest.approx(
        {
            "mAP": 0.6,
            "mAP_50": 0.8,
            "mAP_75": 0.4,
            "mAP_s": 0.3,
            "mAP_m": 0.15,
            "mAP_l": 0.075,
            "AR@1": 0.25,
            "AR@10": 0.5,
            "AR@100": 1.0,
            "AR_s@100": 0.5,
            "AR_m@100": 0.25,
            "AR_l@100": 0.125,
        }
    )


def test_the_mean_is_one_over_the_best_hundred_where_these_are_looked_at() -> None:
    changed = curves((10, 100, 300))
    changed.precision[..., 0, 2] = 0.9
    assert named_values(changed)["mAP"] == pytest.approx(0.6)
    assert named_values(changed._replace(numbers=(10, 50, 300)))["mAP"] == pytest.approx(0.9)


def test_without_any_truth_values_are_what_the_field_writes() -> None:
    empty = curves()
    empty.precision[:], empty.recall[:] = -1, -1
    assert set(named_values(empty).values()) == {-1.0}


def test_a_category_that_is_never_true_has_no_value() -> None:
    first, second = values_by_category(curves())
    assert first == pytest.approx(0.6)
    assert math.isnan(second)


def test_boxes_are_compared_with_the_truth() -> None:
    pytest.importorskip("faster_coco_eval")
    truth = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [20, 20, 10, 10], "area": 100, "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    }
    # The first overlaps its truth by 8 / 12, the second is no cat.
    results: list[dict[str, Any]] = [
        {"image_id": 1, "category_id": 3, "bbox": [0, 2, 10, 10], "score": 0.9},
        {"image_id": 1, "category_id": 4, "bbox": [20, 20, 10, 10], "score": 0.8},
    ]
    asked: dict[str, Any] = {"numbers": (100, 1, 10), "thresholds": (0.5, 0.75), "category_ids": (3, 4)}
    found = measure(truth, results, "bbox", **asked)
    assert (found.numbers, found.recall[:, 0, 0, -1].tolist()) == ((1, 10, 100), [0.5, 0.0])
    assert measure(truth, results, "proposal", **asked).recall[:, 0, 0, -1].tolist() == [1.0, 0.5]
