import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as reference_masks  # type: ignore[import-untyped]
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from footplate.errors import DataError
from footplate.evaluation import EvaluationContext
from footplate.evaluation.evaluator import as_metric
from footplate_vision.detection import DetDataSample
from footplate_vision.structures import InstanceData

CLASSES = ("cat", "dog", "cow")
SIZE = (120, 160)
_NAMES = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"]


def instances(rng: np.random.Generator, count: int, *, scored: bool, masks: bool) -> InstanceData:
    corners = rng.uniform(0, 100, (count, 2))
    sides = rng.choice([4, 20, 45, 110], (count, 1)) * rng.uniform(0.7, 1.3, (count, 2))
    sides[rng.random(count) < 0.08] *= [1, 0]  # boxes without area
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    found = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(rng.integers(3, size=count)))
    if scored:
        digits = int(rng.integers(1, 4))  # few digits: many are tied
        found.scores = torch.from_numpy(rng.random(count).round(digits).astype(np.float32))
    if masks:
        found.masks = torch.from_numpy(np.stack([drawn(box, rng) for box in boxes]) if count else np.zeros((0, *SIZE)))
    return found


def drawn(box: Any, rng: np.random.Generator) -> Any:
    mask = np.zeros(SIZE, dtype=bool)
    x1, y1, x2, y2 = box.astype(int).clip(0, 160)
    mask[y1:y2, x1:x2] = rng.random((max(0, min(y2, 120) - y1), max(0, x2 - x1))) < 0.8
    return mask


def near(truth: InstanceData, rng: np.random.Generator, *, masks: bool) -> InstanceData:
    """Returns predictions near the ground truth, some with the wrong class, and some without a match."""
    right = truth.clone()
    right.bboxes = right.bboxes + torch.from_numpy(rng.normal(0, 2.5, tuple(right.bboxes.shape)).astype(np.float32))
    right.bboxes[:, 2:] = torch.maximum(right.bboxes[:, 2:], right.bboxes[:, :2])
    right.scores = torch.from_numpy(rng.random(len(right)).round(1).astype(np.float32))
    wrong = rng.random(len(right)) < 0.2
    right.labels = torch.where(torch.from_numpy(wrong), (right.labels + 1) % 3, right.labels)
    return InstanceData.cat([right, instances(rng, int(rng.integers(0, 4)), scored=True, masks=masks)])


def scene(seed: int, *, masks: bool = False) -> list[DetDataSample]:
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(int(rng.integers(1, 6))):
        sample = DetDataSample(metainfo={"img_id": 7 + 3 * number, "ori_shape": SIZE})
        sample.gt_instances = instances(rng, int(rng.integers(0, 6)) * (rng.random() < 0.8), scored=False, masks=masks)
        sample.ignored_instances = instances(rng, int(rng.integers(0, 2)), scored=False, masks=masks)
        seen = InstanceData.cat([sample.gt_instances, sample.ignored_instances])
        sample.pred_instances = near(seen, rng, masks=masks)
        if rng.random() < 0.15:
            sample.pred_instances = sample.pred_instances[:0]
        samples.append(sample)
    return samples


def rows(sample: DetDataSample, part: str, **more: Any) -> list[dict[str, Any]]:
    found = []
    fields = sample.get(part)
    for place, (x1, y1, x2, y2) in enumerate(fields.bboxes.double().tolist()):
        row = {"image_id": sample.img_id, "category_id": int(fields.labels[place]), **more}
        if "masks" in fields:
            row["segmentation"] = reference_masks.encode(
                np.asfortranarray(fields.masks[place].numpy().astype(np.uint8))
            )
            row["area"] = float(reference_masks.area(row["segmentation"]))
        else:
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        if "scores" in fields:
            row["score"] = float(fields.scores.double()[place])
        found.append(row)
    return found


def reference(samples: list[DetDataSample], kind: str) -> dict[str, float]:
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for sample in samples:
        truth += rows(sample, "gt_instances", iscrowd=0) + rows(sample, "ignored_instances", iscrowd=1)
        found += rows(sample, "pred_instances", iscrowd=0)
    images = [{"id": sample.img_id, "height": SIZE[0], "width": SIZE[1]} for sample in samples]
    both = []
    for annotations in (truth, found):
        numbered = [{**row, "id": place} for place, row in enumerate(annotations, start=1)]
        api = COCO()
        api.dataset = {"images": images, "annotations": numbered, "categories": [{"id": i} for i in range(3)]}
        both.append(api)
    with contextlib.redirect_stdout(io.StringIO()):
        for api in both:
            api.createIndex()
        evaluation = COCOeval(*both, kind)
        evaluation.params.maxDets = [100, 300, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(_NAMES, evaluation.stats.tolist(), strict=False))


def values(
    samples: list[DetDataSample],
    classes: tuple[str, ...] = CLASSES,
    folder: Path | str = "",
    dataset: str = "",
    **arguments: Any,
) -> dict[str, Any]:
    metric = as_metric({"type": "CocoMetric", **arguments})
    metric.context = EvaluationContext(folder=str(folder), dataset=dataset)
    metric.dataset_meta = {"classes": classes}
    metric.process(None, [sample.to_dict() for sample in samples])
    found: dict[str, Any] = metric.evaluate(len(samples))
    return found


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_values_are_those_of_the_reference(kind: str) -> None:
    for seed in range(25):
        samples = scene(seed, masks=kind == "segm")
        expected = reference(samples, kind)
        found = values(samples, metric=kind)
        assert found == pytest.approx({f"coco/{kind}_{name}": value for name, value in expected.items()}, abs=1e-12), (
            seed
        )


def sample(number: Any = 0, *, found: Any = (), true: Any = (), **meta: Any) -> DetDataSample:
    """Returns an image with boxes of 10 pixels, `(x, y, label)` each; the scores of predictions decrease."""

    def made(places: Any) -> InstanceData:
        boxes = torch.tensor([[x, y, x + 10, y + 10] for x, y, _ in places], dtype=torch.float32).reshape(-1, 4)
        return InstanceData(bboxes=boxes, labels=torch.tensor([label for *_, label in places], dtype=torch.int64))

    made_sample = DetDataSample(metainfo={"img_id": number, "ori_shape": SIZE, **meta})
    made_sample.gt_instances, made_sample.pred_instances = made(true), made(found)
    made_sample.pred_instances.scores = torch.linspace(0.9, 0.1, len(found))
    return made_sample


def test_the_usual_values_have_the_names_of_the_field() -> None:
    found = values([sample(found=[(0, 0, 1)], true=[(0, 0, 1)])], metric=["bbox"])
    assert found == {
        **{f"coco/bbox_{name}": 1.0 for name in ("mAP", "mAP_50", "mAP_75", "mAP_s")},
        **{f"coco/bbox_{name}": -1.0 for name in ("mAP_m", "mAP_l")},
    }


def test_every_class_has_its_value(caplog: pytest.LogCaptureFixture) -> None:
    samples = [sample(found=[(0, 0, 0), (50, 0, 1)], true=[(0, 0, 0), (90, 0, 1)])]
    with caplog.at_level(logging.INFO, "footplate.vision"):
        found = values(samples, classwise=True, prefix="val")
    assert (found["val/cat_precision"], found["val/dog_precision"]) == (1.0, 0.0)
    assert np.isnan(found["val/cow_precision"])
    assert caplog.messages == [
        "bbox, average precision per class:\nclass      AP\ncat     1.000\ndog     0.000\ncow         -"
    ]


def coco_file(folder: Path, **changes: Any) -> str:
    path = folder / "truth.json"
    truth = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 160, "height": 120} for number in (3, 4, 5)],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 20, "bbox": [0, 0, 10, 10]} for number in (3, 4, 5)
        ],
        "categories": [{"id": 20, "name": "dog"}, {"id": 30, "name": "cat"}, {"id": 40, "name": "cow"}],
        **changes,
    }
    path.write_text(json.dumps(truth))
    return str(path)


def test_ids_of_images_and_categories_may_be_strings(tmp_path: Path) -> None:
    path = coco_file(
        tmp_path,
        images=[{"id": name, "file_name": f"{name}.png", "width": 160, "height": 120} for name in ("left", "right")],
        annotations=[{"image_id": "right", "category_id": "d", "bbox": [0, 0, 10, 10]}],
        categories=[{"id": "d", "name": "dog"}, {"id": "c", "name": "cat"}, {"id": "w", "name": "cow"}],
    )
    samples = [sample("left"), sample("right", found=[(0, 0, 1)])]
    found = values(samples, folder=tmp_path, ann_file=path, outfile_prefix="found")
    assert found["coco/bbox_mAP"] == 1.0
    written = json.loads((tmp_path / "found.bbox.json").read_text())
    assert [(each["image_id"], each["category_id"]) for each in written] == [("right", "d")]


def test_a_file_may_lack_a_class_that_is_predicted(tmp_path: Path) -> None:
    path = coco_file(tmp_path, categories=[{"id": 20, "name": "dog"}, {"id": 30, "name": "cat"}])
    assert CLASSES[2] == "cow"
    found = values([sample(3, found=[(0, 0, 1), (50, 0, 2)])], ann_file=path, classwise=True)
    assert (found["coco/bbox_mAP"], found["coco/dog_precision"]) == (1.0, 1.0)
    assert np.isnan(found["coco/cow_precision"])


def test_predictions_and_truth_are_written(tmp_path: Path) -> None:
    prefix = str(tmp_path / "day" / "out" / "test")
    values([sample(7, found=[(1, 2, 1)], true=[(0, 0, 1)])], folder=tmp_path, outfile_prefix="out/test", dataset="day")
    found = json.loads(Path(prefix + ".bbox.json").read_text())
    assert found == [{"image_id": 7, "bbox": [1, 2, 10, 10], "category_id": 1, "score": pytest.approx(0.9)}]
    truth = COCO(prefix + ".gt.json")
    assert (truth.getImgIds(), truth.loadAnns(1)[0]["bbox"], len(truth.cats)) == ([7], [0, 0, 10, 10], 3)


def test_only_writing_needs_no_truth(tmp_path: Path) -> None:
    alone = sample(3, found=[(1, 2, 1)])
    del alone.gt_instances
    prefix = str(tmp_path / "test")
    arguments: dict[str, Any] = {"ann_file": coco_file(tmp_path), "format_only": True, "outfile_prefix": "test"}
    assert values([alone], folder=tmp_path, **arguments) == {}
    assert json.loads(Path(prefix + ".bbox.json").read_text())[0]["category_id"] == 20
    assert not Path(prefix + ".gt.json").exists()


def without(field: str) -> DetDataSample:
    lacking = sample(3, img_path="a.png")
    delattr(lacking, field)
    return lacking


@pytest.mark.parametrize(
    ("samples", "arguments", "message"),
    [
        ([without("pred_instances")], {}, "no 'pred_instances' for the image 'a.png'"),
        ([sample(3, img_path="a.png")], {"metric": "segm"}, "instances of the image 'a.png' have none"),
        ([sample(3), sample(3)], {"ann_file": ""}, "image 3 was evaluated twice"),
    ],
)
def test_missing_keys_are_reported(tmp_path: Path, samples: Any, arguments: Any, message: str) -> None:
    if "ann_file" in arguments:
        arguments = {**arguments, "ann_file": coco_file(tmp_path)}
    with pytest.raises(DataError, match=message):
        values(samples, **arguments)


def test_the_confusion_matrix_of_boxes_is_recorded(tmp_path: Path) -> None:
    # A cat is found, and detected twice. A dog is called a cow. A cow is missed.
    true, found = [(0, 0, 0), (30, 0, 1), (60, 0, 2)], [(31, 0, 2), (1, 0, 0), (0, 1, 0)]
    crowded = sample(1, found=[(0, 0, 1), (50, 50, 1)])
    crowded.pred_instances.scores[:] = 0.5
    crowded.ignored_instances = InstanceData(bboxes=torch.tensor([[0.0, 0, 80, 20]]), labels=torch.tensor([1]))
    unsure = sample(2, found=[(0, 0, 1)])
    unsure.pred_instances.scores[:] = 0.29
    several = sample(0, true=true, found=found)
    several.pred_instances.scores[:] = 0.5
    values([several, crowded, unsure], folder=tmp_path)
    tables = [json.loads(line) for line in (tmp_path / "vis_data/per_class.jsonl").read_text().splitlines()]
    assert tables[1]["metric"] == "confusion_matrix of boxes, score ≥ 0.3, IoU ≥ 0.5"
    assert tables[1]["columns"] == ["class", *CLASSES, "(no object)"]
    assert tables[1]["rows"] == [
        ["cat", 1, 0, 0, 0],
        ["dog", 0, 0, 1, 0],
        ["cow", 0, 0, 0, 1],
        ["(no object)", 1, 1, 0, 0],
    ]
