from typing import Any

import numpy as np
import pytest

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate.tasks.classification import ClsDataSample

ITEMS = ["precision", "recall", "f1-score", "support"]


def evaluated(predicted: list[int], truth: list[int], **arguments: Any) -> dict[str, Any]:
    evaluator = Evaluator(METRICS.build({"type": "SingleLabelMetric", "items": ITEMS, **arguments}))
    evaluator.process(
        [ClsDataSample().set_gt_label(t).set_pred_label(p) for p, t in zip(predicted, truth, strict=True)]
    )
    return evaluator.evaluate(len(truth))


def share(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def by_hand(pairs: list[tuple[int, int]], classes: list[int]) -> list[list[float]]:
    """Precision, recall, F1 and support of each class, from the pictures one after the other."""
    rows = []
    for each in classes:
        right = sum(p == t == each for p, t in pairs)
        claimed, true = sum(p == each for p, _ in pairs), sum(t == each for _, t in pairs)
        precision, recall = share(right, claimed), share(right, true)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows.append([precision, recall, f1, true])
    return rows


@pytest.mark.parametrize("seed", range(200))
def test_values_agree_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, count, ignore = int(rng.integers(1, 7)), int(rng.integers(1, 40)), None if seed % 3 else 7
    predicted, truth = (rng.integers(0, rng.integers(1, classes + 1), size=count) for _ in range(2))
    if ignore is not None:
        truth[rng.random(count) < rng.choice([0.3, 1.0])] = ignore
    pairs = [(p, t) for p, t in zip(predicted.tolist(), truth.tolist(), strict=True) if t != ignore]
    rows = np.array(by_hand(pairs, list(range(classes))))
    arguments: dict[str, Any] = {"num_classes": classes, "ignore_index": ignore}
    each = evaluated(predicted.tolist(), truth.tolist(), average=None, **arguments)
    macro = evaluated(predicted.tolist(), truth.tolist(), **arguments)
    micro = evaluated(predicted.tolist(), truth.tolist(), average="micro", **arguments)
    overall = share(sum(p == t for p, t in pairs), len(pairs))
    for place, item in enumerate(ITEMS):
        assert each[f"single-label/{item}_classwise"] == pytest.approx(rows[:, place])
        wanted = rows[:, place].sum() if item == "support" else rows[:, place].mean()
        assert macro[f"single-label/{item}"] == pytest.approx(wanted)
        wanted = len(pairs) if item == "support" else overall
        assert micro[f"single-label/{item}_micro"] == pytest.approx(wanted)


def test_figures_of_a_small_case() -> None:
    # Class 0: 2 right of 3 true, 3 claimed; class 1: 1 right of 1 true, 1 claimed; class 2: 0 of 1 true.
    found = evaluated([0, 0, 2, 1, 0], [0, 0, 0, 1, 2], num_classes=3)
    assert found == pytest.approx(
        {
            "single-label/precision": (200 / 3 + 100 + 0) / 3,
            "single-label/recall": (200 / 3 + 100 + 0) / 3,
            "single-label/f1-score": (200 / 3 + 100 + 0) / 3,
            "single-label/support": 5,
        }
    )


def test_under_a_threshold_nothing_is_predicted() -> None:
    evaluator = Evaluator(METRICS.build({"type": "SingleLabelMetric", "thrs": [0.0, 0.7], "average": None}))
    rows = [([0.8, 0.2], 0), ([0.6, 0.4], 0), ([0.6, 0.4], 1), ([0.1, 0.9], 1)]
    evaluator.process([ClsDataSample().set_gt_label(t).set_pred_score(s) for s, t in rows])
    found = evaluator.evaluate(4)
    assert found["single-label/precision_thr-0.00_classwise"] == pytest.approx([200 / 3, 100])
    assert found["single-label/precision_thr-0.70_classwise"] == [100, 100]
    assert found["single-label/recall_thr-0.70_classwise"] == [50, 50]
    assert "single-label/support_thr-0.70_classwise" not in found


def test_the_number_of_classes_is_told_by_the_data_set() -> None:
    evaluator = Evaluator(METRICS.build({"type": "SingleLabelMetric", "average": None, "items": ["support"]}))
    evaluator.dataset_meta = {"classes": ("a", "b", "c")}
    evaluator.process([ClsDataSample().set_gt_label(1).set_pred_label(1)])
    assert evaluator.evaluate(1) == {"single-label/support_classwise": [0, 1, 0]}


@pytest.mark.parametrize(
    ("sample", "arguments", "message"),
    [
        (ClsDataSample().set_gt_label(0).set_pred_label(0), {}, "is not known"),
        (
            ClsDataSample().set_gt_label(0).set_pred_score([0.1, 0.9]),
            {"num_classes": 3},
            r"scores are of \[2\] classes",
        ),
        (ClsDataSample().set_gt_label(3).set_pred_label(0), {"num_classes": 3}, "the truth holds class 3, there are 3"),
        (ClsDataSample().set_gt_label(0).set_pred_label(4), {"num_classes": 3}, "the prediction holds class 4"),
    ],
)
def test_what_cannot_be_counted_is_named(sample: ClsDataSample, arguments: dict[str, Any], message: str) -> None:
    metric = METRICS.build({"type": "SingleLabelMetric", **arguments})
    with pytest.raises(DataError, match=message):
        Evaluator(metric).offline_evaluate([sample])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"items": ["recal"]}, "did you mean 'recall'"), ({"average": "mean"}, "'macro', 'micro' or None")],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        METRICS.build({"type": "SingleLabelMetric", **arguments})
