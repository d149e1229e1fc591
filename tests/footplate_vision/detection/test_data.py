import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.errors import DataError
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate_vision.detection import CocoDataset, DetDataSample
from footplate_vision.structures import InstanceData


def content() -> dict[str, Any]:
    """Returns a file with three images, the second without instances, one crowd, and gaps between category ids."""
    boxes = [(1, 4, [2, 3, 10, 20], 0), (1, 9, [0, 0, 30, 30], 1), (5, 9, [15.5, 2, 4, 6], 0)]
    return {
        "images": [{"id": each, "file_name": f"{each}.png", "width": 40, "height": 30 + each} for each in (1, 2, 5)],
        "annotations": [
            {"id": place, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd, "area": 1.0}
            for place, (image, category, box, crowd) in enumerate(boxes, start=100)
        ],
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
    }


def dataset(folder: Path, given: Any = None, **arguments: Any) -> CocoDataset:
    path = folder / "annotations" / "train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content() if given is None else given))
    cfg = {"type": "CocoDataset", "data_root": str(folder), "ann_file": "annotations/train.json"}
    found: CocoDataset = DATASETS.build({**cfg, "data_prefix": {"img": "pictures/"}, **arguments})
    return found


def test_classes_may_be_chosen_and_ordered(tmp_path: Path) -> None:
    both = dataset(tmp_path, metainfo={"classes": ["dog", "cat"]})
    assert both.get_cat_ids(0) == [1, 0]
    one = dataset(tmp_path, metainfo={"classes": ["cat"]}, filter_cfg={"filter_empty_gt": True})
    assert [each["img_id"] for each in map(one.get_data_info, range(len(one)))] == [1]
    assert one.get_cat_ids(0) == [0]


@pytest.mark.parametrize(
    ("filter_cfg", "test_mode", "expected"),
    [
        (None, False, [1, 2, 5]),
        ({"filter_empty_gt": True}, False, [1, 5]),
        ({"min_size": 32}, False, [2, 5]),
        ({"filter_empty_gt": True, "min_size": 32}, True, [1, 2, 5]),
    ],
)
def test_images_are_filtered_in_training(tmp_path: Path, filter_cfg: Any, test_mode: bool, expected: Any) -> None:
    found = dataset(tmp_path, filter_cfg=filter_cfg, test_mode=test_mode)
    assert [each["img_id"] for each in map(found.get_data_info, range(len(found)))] == expected
    small, empty = sum(id_ not in expected for id_ in (1, 5)), int(2 not in expected)
    left_out = f"1 of 3 images in '{found.ann_file}' are left out by filter_cfg: "
    reasons = f"{empty} without boxes, {small} smaller than min_size"
    assert found.left_out == (left_out + reasons if small or empty else "")


def test_annotations_that_cannot_be_used_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = content()
    boxes = [[50, 5, 4, 4], [5, 5, 0, 4], [-3, -2, 8, 7], [30, 20, 90, 90], [1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9]]
    given["annotations"] = [
        {"id": place, "image_id": 1, "category_id": 4, "bbox": box, "area": 9} for place, box in enumerate(boxes)
    ]
    given["annotations"][4]["ignore"] = 1
    given["annotations"][5]["image_id"] = 99
    given["annotations"][6] |= {"area": 0, "segmentation": [[[1, 1], [9, 1], [9, 9]]]}
    with caplog.at_level(logging.WARNING, "footplate"):
        found = dataset(tmp_path, given)
    assert [each["bbox"] for each in found.get_data_info(0)["instances"]] == [
        [0, 0, 5, 5],
        [30, 20, 40, 31],
        [1, 1, 10, 10],
    ]
    file, image = f"In '{tmp_path}/annotations/train.json', ", f"of image '{tmp_path}/pictures/1.png'"
    assert caplog.messages == [
        f"{file}annotations of images that are not in the file are left out: annotation 5 of image '99'.",
        f"{file}the area of the box replaces an 'area' that is not a positive number: annotation 6 of image '1.png'.",
        f"{file}a polygon is not a list of numbers x1, y1, x2, y2, ...; these annotations have no mask: "
        "annotation 6 of image '1.png'.",
        f"{file}boxes below one pixel or outside their image are left out: annotation 0 {image} and 1 more.",
        f"{file}annotations with 'ignore': 1 are left out, as in MMDetection: annotation 4 {image}.",
        f"These classes have no samples in '{tmp_path}/annotations/train.json': dog.",
    ]


def changed(section: str, position: int, **values: Any) -> dict[str, Any]:
    given = content()
    given[section][position] |= values
    return given


def of_other_images() -> dict[str, Any]:
    given = content()
    for annotation in given["annotations"]:
        annotation["image_id"] = 99
    return given


def without_usable_annotations() -> dict[str, Any]:
    given = content()
    for annotation in given["annotations"]:
        annotation["iscrowd"] = 1
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            changed("annotations", 1, category_id=5),
            "'category_id' that is not in 'categories': annotation 101 of image '1.png'\n.*\n.*5\n.*are 4, 9",
        ),
        (
            changed("annotations", 0, bbox=[1, 2, float("nan"), 3]),
            "'bbox' of 'annotations' must be four finite numbers: x, y, width, height: entry 0 of 'annotations'",
        ),
        (changed("annotations", 2, iscrowd="0"), "'iscrowd' of 'annotations' must be 0 or 1: entry 2"),
        (
            changed("images", 2, id=2),
            "entries of 'images' have the same 'id': entries 1, 2 of 'images'\n.*\n.*found: 2",
        ),
        (changed("categories", 1, name="cat"), "entries of 'categories' have the same 'name': entries 0, 1"),
        (without_usable_annotations(), "no annotation in .* can be used for training"),
        (of_other_images(), "no annotation is of an image in the file: all of 'annotations'\n.*\n.*found: .1, 2, 5."),
        ({"images": [], "annotations": []}, "is not a COCO file: it must have the lists images, categories, anno"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(tmp_path, given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metainfo": {"classes": ["cat", "dgo"]}}, DataError, "no category 'dgo'\n(.*\n)*.*did you mean 'dog'"),
        ({"ann_file": "annotations/val.json"}, DataError, "does not exist\n  key ann_file\n  .* has no 'val.json'"),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        dataset(tmp_path, **arguments)


def test_samples_are_made_of_images_on_disk(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in (1, 2):
        Image.new("RGB", (40, 30 + number), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    given = content()
    given["annotations"][0]["segmentation"] = [[2, 3, 12, 3, 12, 23, 2, 23]]
    given["annotations"][1]["segmentation"] = {"size": [31, 40], "counts": [1240]}
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_mask": True},
        {"type": "Resize", "scale_factor": 2},
        {"type": "PackDetInputs"},
    ]
    found = dataset(tmp_path, given, pipeline=pipeline)
    sample = found[0]["data_samples"]
    assert found[0]["inputs"].shape == (3, 62, 80)
    assert sample.gt_instances.bboxes.tolist() == [[4, 6, 24, 46]]
    assert sample.gt_instances.masks.sum() == 4 * 10 * 20
    assert sample.ignored_instances.labels.tolist() == [1]
    assert (sample.img_id, sample.ori_shape, sample.scale_factor) == (1, (31, 40), (2.0, 2.0))
    assert len(found[1]["data_samples"].gt_instances) == 0
    with pytest.raises(DataError, match=r"pictures/5\.png' does not exist"):
        found[2]


def record(**more: Any) -> dict[str, Any]:
    return {
        "img": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        "gt_bboxes": np.array([[0, 0, 2, 1], [1, 0, 4, 2]], np.float64),
        "gt_bboxes_labels": np.array([4, 2]),
        "img_id": 7,
        "img_path": "a.png",
        "ori_shape": (2, 4),
        "scale_factor": (1.0, 1.0),
        "other": 1,
        **more,
    }


def packed(given: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build({"type": "PackDetInputs", **arguments})(given)
    return found


def test_images_and_instances_are_packed() -> None:
    found = packed(record())
    sample = found["data_samples"]
    assert (found["inputs"].shape, found["inputs"].dtype) == ((3, 2, 4), torch.uint8)
    assert found["inputs"][:, 0, 1].tolist() == [3, 4, 5]
    assert sample.gt_instances.bboxes.tolist() == [[0, 0, 2, 1], [1, 0, 4, 2]]
    assert (sample.gt_instances.bboxes.dtype, sample.gt_instances.labels.tolist()) == (torch.float32, [4, 2])
    assert len(sample.ignored_instances) == 0
    assert sorted(sample.metainfo_keys()) == ["img_id", "img_path", "img_shape", "ori_shape", "scale_factor"]


def test_crowds_are_kept_apart() -> None:
    masks = np.zeros((2, 2, 4), bool)
    masks[0, 0, 0] = True
    sample = packed(record(gt_ignore_flags=np.array([True, False]), gt_masks=masks))["data_samples"]
    assert (sample.gt_instances.labels.tolist(), sample.ignored_instances.labels.tolist()) == ([2], [4])
    assert sample.ignored_instances.masks.sum() == 1
    assert "masks" not in packed(record(gt_masks=masks), with_masks=False)["data_samples"].gt_instances


def test_without_annotations_there_is_no_truth() -> None:
    found = packed({"img": np.zeros((2, 4), np.uint8)}, meta_keys=("img_id",))
    assert (found["inputs"].shape, found["data_samples"].keys()) == ((1, 2, 4), [])
    assert found["data_samples"].metainfo == {"img_shape": (2, 4)}


def batch() -> dict[str, Any]:
    truth = InstanceData(bboxes=torch.tensor([[0.0, 0, 3, 2]]), masks=torch.ones(1, 5, 6, dtype=torch.bool))
    samples = [DetDataSample(gt_instances=truth, metainfo={"img_shape": (5, 6)}), DetDataSample()]
    return {"inputs": [torch.full((3, 5, 6), 5.0), torch.full((3, 4, 9), 5.0)], "data_samples": samples}


def test_masks_are_padded_with_pad_mask() -> None:
    found = MODELS.build({"type": "DetDataPreprocessor", "pad_size_divisor": 4, "pad_mask": True})(batch())
    masks = found["data_samples"][0].gt_instances.masks
    assert (masks.shape, int(masks.sum()), masks.dtype) == ((1, 8, 12), 30, torch.bool)
