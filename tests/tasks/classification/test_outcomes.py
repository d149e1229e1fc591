from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.tasks.classification.metric import (
    check_classes,
    check_thresholds,
    class_count,
    predicted_label,
    threshold_suffix,
    true_label,
)


@pytest.mark.parametrize("label", [torch.tensor([2]), torch.tensor(2), np.array([2]), [2]])
def test_the_one_true_class(label: Any) -> None:
    assert true_label({"gt_label": label}) == 2


@pytest.mark.parametrize(("sample", "count"), [({}, 0), ({"gt_label": torch.tensor([1, 2])}, 2)])
def test_no_truth_or_several_is_refused(sample: dict[str, Any], count: int) -> None:
    with pytest.raises(DataError, match=f"'a.png' has {count} true classes"):
        true_label({**sample, "img_path": "a.png"})


@pytest.mark.parametrize(
    ("scores", "threshold", "label"),
    [([0.2, 0.5, 0.3], None, 1), ([0.4, 0.4, 0.2], None, 0), ([0.2, 0.5, 0.3], 0.4, 1), ([0.2, 0.5, 0.3], 0.5, -1)],
)
def test_the_predicted_class(scores: list[float], threshold: float | None, label: int) -> None:
    assert predicted_label({"pred_score": torch.tensor(scores), "pred_label": [2]}, threshold) == label


def test_without_scores_the_label_counts_whatever_the_threshold() -> None:
    assert predicted_label({"pred_label": torch.tensor([2])}, 0.9) == 2


@pytest.mark.parametrize(
    ("samples", "given", "meta", "count"),
    [
        ([{"pred_score": [0.1] * 4}], None, None, 4),
        ([{"pred_score": [0.1] * 4}], 4, None, 4),
        ([{"pred_label": [1]}], 7, {"classes": "ab"}, 7),
        ([{"pred_label": [1]}], None, {"classes": ("a", "b", "c")}, 3),
    ],
)
def test_how_many_classes_there_are(samples: Any, given: int | None, meta: Any, count: int) -> None:
    assert class_count(samples, given, meta) == count


@pytest.mark.parametrize(
    ("samples", "given", "words"),
    [
        ([{"pred_score": [0.1] * 4}], 5, r"scores are of \[4\] classes"),
        ([{"pred_score": [0.1] * 4}, {"pred_score": [0.1] * 3}], None, r"scores are of \[3, 4\] classes"),
        ([{"pred_label": [1]}], None, "how many classes there are is not known"),
    ],
)
def test_a_number_of_classes_that_nobody_knows_is_refused(samples: Any, given: int | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        class_count(samples, given, {})


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_classes_that_there_are_not_are_refused(kind: Any) -> None:
    check_classes("truth", kind([0, 2]), 3)
    check_classes("prediction", kind([-1, 2]), 3, least=-1)
    with pytest.raises(DataError, match="the truth holds class -1, there are 3"):
        check_classes("truth", kind([0, -1]), 3)
    with pytest.raises(DataError, match="the prediction holds class 3, there are 3") as raised:
        check_classes("prediction", kind([3, 4]), 3, least=-1)
    assert raised.value.found == 3


@pytest.mark.parametrize(("thrs", "several"), [(0.5, (0.5,)), (None, (None,)), ([0.5, None], (0.5, None))])
def test_thresholds_are_one_or_several(thrs: Any, several: tuple[Any, ...]) -> None:
    assert check_thresholds(thrs) == several


@pytest.mark.parametrize("thrs", [[], ["half"], "half"])
def test_thresholds_that_are_no_numbers_are_refused(thrs: Any) -> None:
    with pytest.raises(ArgumentError, match="a threshold is a number or None"):
        check_thresholds(thrs)


def test_values_of_several_thresholds_are_told_apart() -> None:
    assert [threshold_suffix(each, (0.5, None)) for each in (0.5, None)] == ["_thr-0.50", "_no-thr"]
    assert threshold_suffix(0.5, (0.5,)) == ""
