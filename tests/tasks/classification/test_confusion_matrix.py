import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate.tasks.classification import ConfusionMatrix
from tests.tasks.classification.test_metric import random_case, samples

MATRIX = np.array([[8, 2], [0, 0]])
NAMES = ["shoe", "bag"]


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


def test_colors_show_shares_of_rows() -> None:
    colors = set(map(tuple, ConfusionMatrix.plot(MATRIX, False, NAMES).reshape(-1, 3).tolist()))
    assert (51, 142, 193) in colors  # 80% of the way from white to blue
    assert (247, 223, 204) in colors  # 20% of the way to orange


def test_values_are_written_where_there_are_some() -> None:
    empty = np.zeros((2, 2), np.int64)
    with_values, without = (ConfusionMatrix.plot(MATRIX, each, NAMES) for each in (True, False))
    assert (with_values != without).any()
    assert (ConfusionMatrix.plot(empty, True, NAMES) == ConfusionMatrix.plot(empty, False, NAMES)).all()
