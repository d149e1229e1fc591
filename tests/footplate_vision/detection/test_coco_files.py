import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from footplate.data.coco_masks import decode_mask
from footplate.errors import DataError
from footplate_vision.detection import CocoDataset
from tests.footplate_vision.detection.coco_files import HEIGHT, WIDTH, changed_file, exports

_NUM_FILES = 300  # 2,000 files were compared with MMDetection 3.3.0 and pycocotools when the generator was written


def read(path: Path, content: Any, **arguments: Any) -> dict[str, list[Any]]:
    """Returns the box, label, ignore flag and mask area of each instance, by image file."""
    path.write_text(json.dumps(content))
    dataset = CocoDataset(ann_file=str(path), data_prefix={"img": "x"}, pipeline=[], **arguments)
    return {
        record["img_path"].removeprefix("x/"): [
            [
                each["bbox"],
                each["bbox_label"],
                each["ignore_flag"],
                int(decode_mask(each["mask"], (record["height"], record["width"])).sum()) if "mask" in each else None,
            ]
            for each in record["instances"]
        ]
        for record in map(dataset.get_data_info, range(len(dataset)))
    }


def expected(content: Any) -> dict[str, list[Any]]:
    """Returns what MMDetection reads from a file that has no problems; boxes are clipped as its transforms do."""
    labels = {each["id"]: "abc".index(each["name"]) for each in content["categories"] if each["name"] in "abc"}
    instances: dict[Any, list[Any]] = {each["id"]: [] for each in content["images"]}
    texts = {str(number): number for number in (*labels, *instances)}  # ids may be text
    for each in content["annotations"]:
        image, category = each["image_id"], each["category_id"]
        image, category = texts.get(str(image), image), texts.get(str(category), category)
        x, y, width, height = each["bbox"]
        box = [max(x, 0), max(y, 0), min(x + width, WIDTH), min(y + height, HEIGHT)]
        mask = each.get("segmentation")
        # All masks without problems are rectangles of the generator, or the square and a triangle of half its size.
        area = int(decode_mask(mask, (HEIGHT, WIDTH)).sum()) if mask else None
        instances[image].append([box, labels[category], int(each.get("iscrowd") or 0), area])
    return {each["file_name"]: instances[each["id"]] for each in content["images"]}


def test_changed_files_are_read_as_by_others_or_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcomes = {"equal": 0, "warning": 0, "error": 0}
    for seed in range(_NUM_FILES):
        content, changes = changed_file(random.Random(seed))
        caplog.clear()
        file, error = tmp_path / f"{seed}.json", ""
        try:
            found = read(file, content, metainfo={"classes": ["a", "b", "c"]})
        except DataError as raised:
            error = str(raised)
        if error:
            outcomes["error"] += 1
            assert file.name in error, changes
            assert len(error.splitlines()) <= 5, changes
            continue
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert all(file.name in warning for warning in warnings), changes
        outcomes["warning" if warnings else "equal"] += 1
        if not warnings:
            assert found == expected(content), changes
    assert min(outcomes.values()) > 30, outcomes


@pytest.mark.parametrize("tool", exports())
def test_exports_of_labelling_tools_are_read_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tool: str
) -> None:
    content = exports()[tool]
    for arguments in ({}, {"metainfo": {"classes": ["bolt", "nut"]}}, {"test_mode": True}):
        found = read(tmp_path / "a.json", content, **arguments)
        area = 100 if content["annotations"][0]["segmentation"] else None
        assert list(found.values()) == [[[[4, 4, 14, 14], label, 0, area]] for label in (0, 1)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
