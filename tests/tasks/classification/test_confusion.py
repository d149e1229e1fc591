from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate.tasks.classification import ClsDataSample, ConfusionMatrix


@pytest.mark.parametrize("seed", range(200))
def test_cells_agree_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, count, ignore = int(rng.integers(1, 7)), int(rng.integers(1, 40)), None if seed % 3 else 7
    scores = (rng.integers(0, 5, size=(count, classes)) / 10).tolist()  # few values: many ties
    truth = rng.integers(0, rng.integers(1, classes + 1), size=count).tolist()
    if ignore is not None:
        truth = [ignore if rng.random() < 0.4 else each for each in truth]
    evaluator = Evaluator(METRICS.build({"type": "ConfusionMatrix", "ignore_index": ignore}))
    evaluator.process([ClsDataSample().set_gt_label(t).set_pred_score(s) for s, t in zip(scores, truth, strict=True)])
    cells = np.zeros((classes, classes), np.int64)
    for row, true in zip(scores, truth, strict=True):
        if true != ignore:
            cells[true, row.index(max(row))] += 1
    found = evaluator.evaluate(count)["confusion_matrix/result"]
    assert found.dtype == torch.int64
    assert found.tolist() == cells.tolist()


def test_rows_are_true_classes() -> None:
    found = ConfusionMatrix.calculate(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 0]), 2)
    assert found.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(("predicted", "truth", "what"), [(3, 0, "prediction"), (0, -1, "truth"), (0, 3, "truth")])
def test_classes_out_of_range_are_named(predicted: int, truth: int, what: str) -> None:
    with pytest.raises(DataError, match=f"the {what} holds class"):
        ConfusionMatrix.calculate(torch.tensor([predicted]), torch.tensor([truth]), 3)


@pytest.mark.parametrize("sample", [ClsDataSample().set_pred_label(1), ClsDataSample().set_gt_label([0, 1])])
def test_one_true_class_is_wanted(sample: Any) -> None:
    with pytest.raises(DataError, match="this metric takes one"):
        METRICS.build({"type": "ConfusionMatrix", "num_classes": 2}).process(None, [sample.to_dict()])
