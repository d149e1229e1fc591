"""Average precision and recall as COCO defines them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.data.masks import coco_package
from footplate.tasks.detection.coco_format import as_annotations

UNDEFINED = -1.0  # what the field writes where there is no truth to find
_AREAS = {"": 0, "_s": 1, "_m": 2, "_l": 3}
_FEWEST_FOR_MEAN = 100  # the mean over thresholds is one over the best hundred, if those are looked at


class Curves(NamedTuple):
    """What was found of one kind.

    Attributes:
        precision: ``(T, R, K, A, M)``: by threshold, recall, category, size and number of predictions looked at; -1
            where there is no truth.
        recall: ``(T, K, A, M)``.
        thresholds: ``(T,)``.
        numbers: ``(M,)``, how many predictions of a picture are looked at.
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
    """Compares results with the truth.

    Args:
        truth: As a COCO file holds it, with the pictures to look at.
        results: As a COCO result file holds them.
        kind: "bbox", "segm", or "proposal": boxes whatever their class.
        numbers: How many predictions of a picture are looked at, three numbers.
        thresholds: How much a prediction must overlap the truth, 0 to 1.
        category_ids: The categories to look at, in the order of the curves.

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
    """Returns the values that the field reports, by name; -1 where there is no truth to find.

    `mAP` is the mean over thresholds and categories, `mAP_50` and `mAP_75` those at one threshold, `mAP_s`, `mAP_m` and
    `mAP_l` those of instances of less than 32², less than 96² and more pixels; `AR@100` is the mean recall of that
    many predictions a picture.

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
    """Returns the mean precision over thresholds of each category, NaN where it is never true."""
    means = [_mean(curves.precision[:, :, place, 0, -1]) for place in range(curves.precision.shape[2])]
    return [math.nan if value == UNDEFINED else value for value in means]


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else UNDEFINED
