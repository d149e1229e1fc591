import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate_vision.classification import ClsDataSample, ConfusionMatrix, SingleLabelMetric

Case = tuple[list[list[float]], list[int]]
ITEMS = ["precision", "recall", "f1-score", "support"]


def random_case(seed: int, *, ignore: int | None = None) -> tuple[int, Case]:
    """Returns scores and classes with ties, unused classes, and sometimes a single class."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(1, 7)), int(rng.integers(1, 30))
    scores = rng.integers(0, rng.choice([2, 5, 1000]), size=(count, classes)) / 1000 + 1e-4
    truth = rng.integers(0, rng.integers(1, classes + 1), size=count)
    if ignore is not None:
        truth[rng.random(count) < rng.choice([0.0, 0.3, 1.0])] = ignore
    return classes, (scores.tolist(), truth.tolist())


def samples(case: Case) -> list[ClsDataSample]:
    return [ClsDataSample().set_gt_label(t).set_pred_score(s) for s, t in zip(*case, strict=True)]


def accuracy_of(case: Case, **arguments: Any) -> dict[str, Any]:
    evaluator = Evaluator(METRICS.build({"type": "Accuracy", **arguments}))
    evaluator.process(samples(case))
    return evaluator.evaluate(len(case[1]))


def accuracy_by_a_loop(case: Case, k: int, threshold: float | None, ignore: int | None) -> float:
    """Computes the accuracy by loops over images and classes."""
    right = counted = 0
    for scores, truth in zip(*case, strict=True):
        if truth == ignore:
            continue
        counted += 1
        order = sorted(range(len(scores)), key=lambda at: (-np.float32(scores[at]), at))
        above = threshold is None or np.float32(scores[truth]) > threshold
        right += truth in order[:k] and above
    return 100 * right / counted if counted else math.nan


@pytest.mark.parametrize("seed", range(12))
def test_accuracy_agrees_with_a_plain_loop(seed: int) -> None:
    ignore = None if seed % 2 else 9
    classes, case = random_case(seed, ignore=ignore)
    thresholds: Sequence[float | None] = (0.0, 0.003, None)
    found = accuracy_of(case, topk=tuple(range(1, classes + 1)), thrs=thresholds, ignore_index=ignore)
    for k in range(1, classes + 1):
        for threshold, suffix in zip(thresholds, ("_thr-0.00", "_thr-0.00", "_no-thr"), strict=True):
            if threshold != 0.0:
                expected = accuracy_by_a_loop(case, k, threshold, ignore)
                assert found[f"accuracy/top{k}{suffix}"] == pytest.approx(expected, nan_ok=True)


def test_scores_that_are_not_probabilities_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    assert accuracy_of(([[-0.5, -2.0], [-3.0, 1.0]], [0, 0]))["accuracy/top1"] == 0
    single_label = SingleLabelMetric(0.0, ITEMS, "macro", 2)
    single_label.process(None, [{"gt_label": 0, "pred_score": torch.tensor([-1.0, 0.0]).bfloat16()}])
    assert [message.split()[0] for message in caplog.messages] == ["Accuracy", "SingleLabelMetric"]
    assert "set thrs=None" in caplog.text


def test_labels_alone_are_compared() -> None:
    evaluator = Evaluator(METRICS.build({"type": "Accuracy", "prefix": "val"}))
    evaluator.process([ClsDataSample().set_gt_label(t).set_pred_label(p) for p, t in ((1, 1), (0, 1), (2, 2), (0, 0))])
    assert evaluator.evaluate(4) == {"val/top1": 75.0}


@pytest.mark.parametrize(
    ("sample", "arguments", "message"),
    [
        (
            ClsDataSample().set_gt_label(0).set_pred_score([0.5, 0.5]),
            {"topk": (1, 3)},
            "topk must be at most 2",
        ),
        (
            ClsDataSample().set_gt_label(2).set_pred_score([0.5, 0.5]),
            {},
            "contains class 2",
        ),
        (
            ClsDataSample().set_gt_label([0, 1]).set_pred_score([0.5, 0.5]),
            {},
            "the number of true classes of an image is 2",
        ),
        (ClsDataSample().set_gt_label(0).set_pred_label(1), {"topk": 5}, "topk without scores must be at most 1"),
    ],
)
def test_samples_without_an_accuracy_are_refused(
    sample: ClsDataSample, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises((ArgumentError, DataError), match=message):
        METRICS.build({"type": "Accuracy", **arguments}).process(None, [sample.to_dict()])


def single_label_values(predicted: list[int], truth: list[int], **arguments: Any) -> dict[str, Any]:
    evaluator = Evaluator(METRICS.build({"type": "SingleLabelMetric", "items": ITEMS, **arguments}))
    evaluator.process(
        [ClsDataSample().set_gt_label(t).set_pred_label(p) for p, t in zip(predicted, truth, strict=True)]
    )
    return evaluator.evaluate(len(truth))


def share(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def precision_recall_by_a_loop(pairs: list[tuple[int, int]], classes: list[int]) -> list[list[float]]:
    """Returns precision, recall, F1 and support of each class, computed by loops over images."""
    rows = []
    for each in classes:
        right = sum(p == t == each for p, t in pairs)
        claimed, true = sum(p == each for p, _ in pairs), sum(t == each for _, t in pairs)
        precision, recall = share(right, claimed), share(right, true)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows.append([precision, recall, f1, true])
    return rows


@pytest.mark.parametrize("seed", range(12))
def test_precision_and_recall_agree_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, count, ignore = int(rng.integers(1, 7)), int(rng.integers(1, 40)), None if seed % 3 else 7
    predicted, truth = (rng.integers(0, rng.integers(1, classes + 1), size=count) for _ in range(2))
    if ignore is not None:
        truth[rng.random(count) < rng.choice([0.3, 1.0])] = ignore
    pairs = [(p, t) for p, t in zip(predicted.tolist(), truth.tolist(), strict=True) if t != ignore]
    rows = np.array(precision_recall_by_a_loop(pairs, list(range(classes))))
    arguments: dict[str, Any] = {"num_classes": classes, "ignore_index": ignore}
    each = single_label_values(predicted.tolist(), truth.tolist(), average=None, **arguments)
    macro = single_label_values(predicted.tolist(), truth.tolist(), **arguments)
    micro = single_label_values(predicted.tolist(), truth.tolist(), average="micro", **arguments)
    overall = share(sum(p == t for p, t in pairs), len(pairs))
    for place, item in enumerate(ITEMS):
        assert each[f"single-label/{item}_classwise"] == pytest.approx(rows[:, place])
        wanted = rows[:, place].sum() if item == "support" else rows[:, place].mean()
        assert macro[f"single-label/{item}"] == pytest.approx(wanted)
        wanted = len(pairs) if item == "support" else overall
        assert micro[f"single-label/{item}_micro"] == pytest.approx(wanted)


def test_under_a_threshold_nothing_is_predicted() -> None:
    evaluator = Evaluator(METRICS.build({"type": "SingleLabelMetric", "thrs": [0.0, 0.7], "average": None}))
    rows = [([0.8, 0.2], 0), ([0.6, 0.4], 0), ([0.6, 0.4], 1), ([0.1, 0.9], 1)]
    evaluator.process([ClsDataSample().set_gt_label(t).set_pred_score(s) for s, t in rows])
    found = evaluator.evaluate(4)
    assert found["single-label/precision_thr-0.00_classwise"] == pytest.approx([200 / 3, 100])
    assert found["single-label/precision_thr-0.70_classwise"] == [100, 100]
    assert found["single-label/recall_thr-0.70_classwise"] == [50, 50]
    assert "single-label/support_thr-0.70_classwise" not in found


@pytest.mark.parametrize("seed", range(12))
def test_cells_agree_with_a_plain_loop(seed: int) -> None:
    ignore = None if seed % 3 else 7
    classes, case = random_case(seed, ignore=ignore)
    evaluator = Evaluator(METRICS.build({"type": "ConfusionMatrix", "ignore_index": ignore}))
    evaluator.process(samples(case))
    cells = np.zeros((classes, classes), np.int64)
    for row, true in zip(*case, strict=True):
        if true != ignore:
            cells[true, row.index(max(row))] += 1
    found = evaluator.evaluate(len(case[1]))["confusion_matrix/result"]
    assert found.dtype == torch.int64
    assert found.tolist() == cells.tolist()


@pytest.mark.parametrize(("predicted", "truth", "what"), [(3, 0, "prediction"), (0, -1, "ground truth")])
def test_classes_out_of_range_are_reported(predicted: int, truth: int, what: str) -> None:
    with pytest.raises(DataError, match=f"the {what} contains class"):
        ConfusionMatrix.calculate(torch.tensor([predicted]), torch.tensor([truth]), 3)
