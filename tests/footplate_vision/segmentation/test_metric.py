import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from footplate.errors import DataError
from footplate.evaluation import EvaluationContext, Evaluator
from footplate.registry import METRICS
from footplate_vision.segmentation import IoUMetric, SegDataSample
from footplate_vision.structures import PixelData

Pair = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
ALL = ("mIoU", "mDice", "mFscore")
KINDS = ("IoU", "Acc", "Dice", "Fscore", "Precision", "Recall")


def sample(predicted: Any, truth: Any, img_path: str = "a.png") -> SegDataSample:
    found = SegDataSample(metainfo={"img_path": img_path})
    found.pred_sem_seg = PixelData(data=torch.as_tensor(np.asarray(predicted)))
    found.gt_sem_seg = PixelData(data=torch.as_tensor(np.asarray(truth)))
    return found


def evaluated(pairs: list[Pair], classes: int, **arguments: Any) -> dict[str, float]:
    evaluator = Evaluator(IoUMetric(**{"iou_metrics": ALL, **arguments}))
    evaluator.dataset_meta = {"classes": [f"c{number}" for number in range(classes)]}
    for predicted, truth in pairs:
        evaluator.process([sample(predicted, truth)])
    return evaluator.evaluate(len(pairs))


def share(part: float, whole: float) -> float:
    return 100 * part / whole if whole else math.nan


def counted_by_hand(pairs: list[Pair], classes: int, ignore: int) -> dict[str, float]:
    """Computes the same values by loops over pixels."""
    pixels = [
        (int(p), int(t)) for pair in pairs for p, t in zip(pair[0].flat, pair[1].flat, strict=True) if t != ignore
    ]
    columns: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for each in range(classes):
        both = sum(p == each and t == each for p, t in pixels)
        predicted, true = sum(p == each for p, _ in pixels), sum(t == each for _, t in pixels)
        columns["IoU"].append(share(both, predicted + true - both))
        columns["Dice"].append(share(2 * both, predicted + true))
        columns["Acc"].append(share(both, true))
        columns["Recall"].append(share(both, true))
        columns["Precision"].append(share(both, predicted))
        # Without a correct pixel, precision or recall is undefined, or both are 0.
        columns["Fscore"].append(share(2 * both, predicted + true) if both else math.nan)
    values = {"aAcc": share(sum(p == t for p, t in pixels), len(pixels))}
    for kind, column in columns.items():
        known = [value for value in column if not math.isnan(value)]
        values[f"m{kind}"] = sum(known) / len(known) if known else math.nan
    return values


@pytest.mark.parametrize("seed", range(20))
def test_values_agree_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, ignore = int(rng.integers(1, 6)), int(rng.choice([0, 255]))
    pairs = []
    for _ in range(rng.integers(1, 4)):
        shape = tuple(rng.integers(1, 7, size=2))
        # Fewer classes than there are, or one label alone, leaves classes without a pixel.
        truth = rng.integers(0, rng.integers(1, classes + 1), size=shape)
        truth[rng.random(shape) < rng.choice([0.0, 0.3, 1.0])] = ignore
        pairs.append((rng.integers(0, rng.integers(1, classes + 1), size=shape), truth))
    found = evaluated(pairs, classes, ignore_index=ignore)
    assert found == pytest.approx(counted_by_hand(pairs, classes, ignore), nan_ok=True)


def test_undefined_values_can_be_replaced() -> None:
    assert evaluated([(np.array([[0, 1]]), np.array([[0, 1]]))], 4, nan_to_num=0)["mIoU"] == 50


@pytest.mark.parametrize(("metainfo", "written"), [({}, [[0, 3]]), ({"reduce_zero_label": True}, [[1, 4]])])
def test_predictions_may_be_written_instead(tmp_path: Path, metainfo: dict[str, bool], written: Any) -> None:
    metric = METRICS.build({"type": "IoUMetric", "format_only": True, "output_dir": str(tmp_path / "out")})
    evaluator = Evaluator(metric)
    element = sample([[0, 3]], [[0, 0]], "folder/scene.jpg")
    element.set_metainfo(metainfo)
    evaluator.process([element])
    assert evaluator.evaluate(1) == {}
    with Image.open(tmp_path / "out" / "scene.png") as image:
        assert np.asarray(image).tolist() == written


def test_names_of_files_do_not_depend_on_the_process_or_the_order(tmp_path: Path) -> None:
    class Data(list[Any]):
        get_data_info = list.__getitem__

    metric = IoUMetric(format_only=True, output_dir=str(tmp_path))
    metric.context = EvaluationContext(dataset="day")
    metric.attach(Data({"img_path": f"{folder}/0.png"} for folder in ("north", "south")))
    metric.process(None, [sample([[0]], [[0]], "south/0.png").to_dict()])  # another process evaluates the first one
    assert [path.name for path in tmp_path.glob("day/*")] == ["south_0.png"]


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([[0, 1]], [[0, 2]], "the ground truth of 'a.png' contains class 2, but classes must be between 0 and 1"),
        ([[0, -1]], [[0, 1]], "the prediction of 'a.png' contains class -1"),
        ([[0, 1]], [[0, 1, 1]], "put LoadAnnotations after Resize"),
    ],
)
def test_samples_that_do_not_fit_are_reported(predicted: Any, truth: Any, message: str) -> None:
    metric = IoUMetric()
    metric.dataset_meta = {"classes": ["a", "b"]}
    with pytest.raises(DataError, match=message):
        metric.process(None, [sample(predicted, truth).to_dict()])


def test_the_confusion_matrix_is_recorded(tmp_path: Path) -> None:
    metric = IoUMetric()
    metric.context = EvaluationContext(folder=str(tmp_path))
    metric.dataset_meta = {"classes": ["floor", "shoe", "bag"]}
    for predicted, truth in (([[[0, 1, 1]]], [[[0, 1, 2]]]), ([[[1, 1, 2]]], [[[0, 0, 255]]])):
        metric.process(None, [sample(predicted, truth).to_dict()])
    metric.evaluate(2)
    _, line = (tmp_path / "vis_data/per_class.jsonl").read_text().splitlines()
    table = json.loads(line)
    assert (table["metric"], table["columns"]) == ("confusion_matrix", ["class", "floor", "shoe", "bag"])
    assert table["rows"] == [["floor", 1, 2, 0], ["shoe", 0, 1, 0], ["bag", 0, 1, 0]]
