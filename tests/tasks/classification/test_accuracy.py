import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate.tasks.classification import ClsDataSample

Case = tuple[list[list[float]], list[int]]


def random_case(seed: int, *, ignore: int | None = None) -> tuple[int, Case]:
    """Few distinct scores make ties, few classes in use leave some absent, some cases are of one class."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(1, 7)), int(rng.integers(1, 30))
    scores = rng.integers(0, rng.choice([2, 5, 1000]), size=(count, classes)) / 1000 + 1e-4
    truth = rng.integers(0, rng.integers(1, classes + 1), size=count)
    if ignore is not None:
        truth[rng.random(count) < rng.choice([0.0, 0.3, 1.0])] = ignore
    return classes, (scores.tolist(), truth.tolist())


def samples(case: Case) -> list[ClsDataSample]:
    return [ClsDataSample().set_gt_label(t).set_pred_score(s) for s, t in zip(*case, strict=True)]


def evaluated(case: Case, **arguments: Any) -> dict[str, Any]:
    evaluator = Evaluator(METRICS.build({"type": "Accuracy", **arguments}))
    evaluator.process(samples(case))
    return evaluator.evaluate(len(case[1]))


def by_hand(case: Case, k: int, threshold: float | None, ignore: int | None) -> float:
    """The pictures and classes one after the other."""
    right = counted = 0
    for scores, truth in zip(*case, strict=True):
        if truth == ignore:
            continue
        counted += 1
        order = sorted(range(len(scores)), key=lambda at: (-np.float32(scores[at]), at))
        above = threshold is None or np.float32(scores[truth]) > threshold
        right += truth in order[:k] and above
    return 100 * right / counted if counted else math.nan


@pytest.mark.parametrize("seed", range(200))
def test_values_agree_with_a_plain_loop(seed: int) -> None:
    ignore = None if seed % 2 else 9
    classes, case = random_case(seed, ignore=ignore)
    thresholds: Sequence[float | None] = (0.0, 0.003, None)
    found = evaluated(case, topk=tuple(range(1, classes + 1)), thrs=thresholds, ignore_index=ignore)
    for k in range(1, classes + 1):
        for threshold, suffix in zip(thresholds, ("_thr-0.00", "_thr-0.00", "_no-thr"), strict=True):
            if threshold != 0.0:
                expected = by_hand(case, k, threshold, ignore)
                assert found[f"accuracy/top{k}{suffix}"] == pytest.approx(expected, nan_ok=True)


def test_figures_of_a_small_case() -> None:
    case = ([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]], [0, 2, 1, 2])
    assert evaluated(case, topk=(1, 2, 3)) == {"accuracy/top1": 50.0, "accuracy/top2": 100.0, "accuracy/top3": 100.0}
    assert evaluated(case, thrs=(0.65, None)) == {"accuracy/top1_thr-0.65": 25.0, "accuracy/top1_no-thr": 50.0}


def test_labels_alone_are_compared() -> None:
    evaluator = Evaluator(METRICS.build({"type": "Accuracy", "prefix": "val"}))
    evaluator.process([ClsDataSample().set_gt_label(t).set_pred_label(p) for p, t in ((1, 1), (0, 1), (2, 2), (0, 0))])
    assert evaluator.evaluate(4) == {"val/top1": 75.0}


def test_where_nothing_counts_there_is_no_value() -> None:
    assert math.isnan(evaluated(([[0.5, 0.5]], [255]), ignore_index=255)["accuracy/top1"])


@pytest.mark.parametrize(
    ("sample", "arguments", "message"),
    [
        (
            ClsDataSample().set_gt_label(0).set_pred_score([0.5, 0.5]),
            {"topk": (1, 3)},
            "top3 is asked for, there are 2",
        ),
        (ClsDataSample().set_gt_label(2).set_pred_score([0.5, 0.5]), {}, "the truth is class 2, there are 2"),
        (ClsDataSample().set_pred_score([0.5, 0.5]), {}, "has 0 true classes"),
        (ClsDataSample().set_gt_label([0, 1]).set_pred_score([0.5, 0.5]), {}, "has 2 true classes"),
        (ClsDataSample().set_gt_label(0).set_pred_label(1), {"topk": 5}, "top5 needs 'pred_score'"),
    ],
)
def test_what_cannot_be_counted_is_named(sample: ClsDataSample, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        METRICS.build({"type": "Accuracy", **arguments}).process(None, [sample.to_dict()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"topk": 0}, "positive whole"), ({"topk": ()}, "positive whole"), ({"thrs": "high"}, "a number or None")],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        METRICS.build({"type": "Accuracy", **arguments})


def test_half_precision_scores_are_taken() -> None:
    sample = ClsDataSample().set_gt_label(1).set_pred_score(torch.tensor([0.25, 0.75], dtype=torch.float16))
    evaluator = Evaluator(METRICS.build({"type": "Accuracy"}))
    evaluator.process([sample])
    assert evaluator.evaluate(1) == {"accuracy/top1": 100.0}
