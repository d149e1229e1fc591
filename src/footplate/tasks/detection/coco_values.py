"""Average precision and recall as defined by COCO."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.data.annotations import coco_package
from footplate.tasks.detection.coco_format import as_annotations

UNDEFINED = -1.0  # the value that COCO uses if there is no ground truth
_AREAS = {"": 0, "_s": 1, "_m": 2, "_l": 3}
_FEWEST_FOR_MEAN = 100  # COCO computes mAP from the 100 best predictions, if this limit is among `numbers`


class Curves(NamedTuple):
    """Precision and recall for boxes or masks.

    Attributes:
        precision: ``(T, R, K, A, M)``, by threshold, recall, category, object size and maximum number of predictions;
            -1 if there is no ground truth.
        recall: ``(T, K, A, M)``.
        thresholds: ``(T,)``.
        numbers: ``(M,)``, the maximum numbers of predictions per image.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    numbers: tuple[int, ...]


def measure(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: str,
    *,
    numbers: Sequence[int],
    thresholds: Sequence[float],
    category_ids: Sequence[int],
) -> Curves:
    """Evaluates results against the ground truth.

    Args:
        truth: The content of a COCO file, with the images to evaluate.
        results: The content of a COCO result file.
        kind: "bbox", "segm", or "proposal" for class-agnostic boxes.
        numbers: Three maximum numbers of predictions per image.
        thresholds: The IoU thresholds, 0 to 1.
        category_ids: The ids of the categories to evaluate, in the order of the curves.

    Raises:
        MissingExtraError: The package faster-coco-eval is not installed.
    """
    package = coco_package("CocoMetric")
    compared = "segm" if kind == "segm" else "bbox"
    found = {**truth, "annotations": as_annotations(results, compared)}
    evaluation = package.COCOeval_faster(package.COCO(dict(truth)), package.COCO(found), compared)
    evaluation.params.imgIds = [image["id"] for image in truth["images"]]
    evaluation.params.catIds = list(category_ids)
    evaluation.params.useCats = int(kind != "proposal")
    evaluation.params.maxDets = sorted(numbers)
    evaluation.params.iouThrs = np.array(thresholds, dtype=np.float64)
    evaluation.evaluate()
    evaluation.accumulate()
    shape = tuple(evaluation.eval["counts"])
    return Curves(
        np.asarray(evaluation.eval["precision"], dtype=np.float64).reshape(shape),
        np.asarray(evaluation.eval["recall"], dtype=np.float64).reshape(shape[0], *shape[2:]),
        evaluation.params.iouThrs,
        tuple(evaluation.params.maxDets),
    )


def named_values(curves: Curves) -> dict[str, float]:
    """Returns the COCO metrics by name; -1 if there is no ground truth.

    `mAP` is the mean over thresholds and categories. `mAP_50` and `mAP_75` use one threshold. `mAP_s`, `mAP_m` and
    `mAP_l` are those of instances of less than 32², less than 96² and more pixels. `AR@100` is the mean recall with at
    most 100 predictions per image.

    Source: https://cocodataset.org/#detection-eval.
    """
    most = len(curves.numbers) - 1
    usual = curves.numbers.index(_FEWEST_FOR_MEAN) if _FEWEST_FOR_MEAN in curves.numbers else most
    values = {"mAP": _mean(curves.precision[..., 0, usual])}
    for name, threshold in (("mAP_50", 0.5), ("mAP_75", 0.75)):
        values[name] = _mean(curves.precision[np.isclose(curves.thresholds, threshold)][..., 0, most])
    for name in ("_s", "_m", "_l"):
        values["mAP" + name] = _mean(curves.precision[..., _AREAS[name], most])
    for place, number in enumerate(curves.numbers):
        values[f"AR@{number}"] = _mean(curves.recall[..., 0, place])
    for name in ("_s", "_m", "_l"):
        values[f"AR{name}@{curves.numbers[most]}"] = _mean(curves.recall[..., _AREAS[name], most])
    return values


def values_by_category(curves: Curves) -> list[float]:
    """Returns the average precision of each category; NaN if the category has no ground truth."""
    means = [_mean(curves.precision[:, :, place, 0, -1]) for place in range(curves.precision.shape[2])]
    return [math.nan if value == UNDEFINED else value for value in means]


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else UNDEFINED
