import importlib
import math

import numpy as np
import pytest
import torch

from footplate import openmmlab
from footplate.openmmlab.kitti_overlaps import rotate_iou_gpu_eval
from tests.openmmlab.conftest import WritePackage

_MODULE = "mmdet3d.evaluation.functional.kitti_utils.rotate_iou"


@pytest.mark.parametrize(("criterion", "wanted"), [(-1, 6 / 10), (2, 6)])
def test_shared_area_is_divided_as_in_the_metric(criterion: int, wanted: float) -> None:
    boxes = np.array([[0, 0, 4, 2, 0], [50, 50, 1, 1, 0]])
    values = rotate_iou_gpu_eval(boxes, np.array([[1, 0, 4, 2, 0]]), criterion)
    assert values.tolist() == [[pytest.approx(wanted)], [0]]


def test_criteria_0_and_1_divide_by_the_query_box_and_by_the_box() -> None:
    boxes, queries = np.array([[0, 0, 4, 2, 0]]), np.array([[0, 0, 2, 1, 0]])
    assert rotate_iou_gpu_eval(boxes, queries, 0) == pytest.approx(2 / 2)
    assert rotate_iou_gpu_eval(boxes, queries, 1) == pytest.approx(2 / 8)


def test_angles_are_clockwise() -> None:
    thin, corner = np.array([[0, 0, 4, 0.2, -math.pi / 4]]), np.array([[1, 1, 0.5, 0.5, 0]])
    assert rotate_iou_gpu_eval(thin, corner).item() > 0
    assert rotate_iou_gpu_eval(thin * [1, 1, 1, 1, -1], corner).item() == 0


def test_module_that_needs_a_gpu_is_replaced_without_one(
    package: WritePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, *parts = _MODULE.split(".")
    modules = {"/".join([*parts[:end], "__init__"]): "" for end in range(1, len(parts))}
    package(top, {**modules, "/".join(parts): "raise ImportError('numba needs a GPU')"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    openmmlab.install()
    assert importlib.import_module(_MODULE).rotate_iou_gpu_eval is rotate_iou_gpu_eval
