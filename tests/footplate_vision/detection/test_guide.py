"""The guide `docs/tasks/detection.md` is correct: its configs train on a COCO file."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.config import Config
from footplate.registry import DATASETS
from footplate_vision.initial_config import write_config
from tests.footplate_vision.guides import TWO_EPOCHS, trained, write_own_configs

SHORT = [
    *TWO_EPOCHS,
    "train_dataloader.batch_size=2",
    "train_dataloader.dataset.pipeline.2.scale=[96,64]",  # RT-DETR needs 100 positions
    "val_dataloader.dataset.pipeline.2.scale=[96,64]",
]


def write_data(folder: Path) -> None:
    """Writes images with two objects each, one annotated as a crowd, and with a category that is not used."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        (folder / split).mkdir(parents=True)
        for number in range(1, 5):
            pixels = rng.integers(0, 60, (50 + number, 80, 3)).astype(np.uint8)
            for place, category in enumerate((3, 8)):
                x, y, width, height = 5 + 40 * place, 3 + number, 20, 30
                pixels[y : y + height, x : x + width, place] = 220
                box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": int(number == 2 and place)}
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, **box})
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 50 + number})
        categories = [{"id": 3, "name": "nut"}, {"id": 5, "name": "ring"}, {"id": 8, "name": "bolt"}]
        path = folder / "annotations" / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_yolo(folder: Path, copy: Path) -> None:
    """Writes a copy of the images, with YOLO labels; the last image has none."""
    for split in ("train", "val"):
        shutil.copytree(folder / split, copy / "images" / split)
        content = json.loads((folder / f"annotations/{split}.json").read_text())
        lines: dict[int, list[str]] = {}
        for each in content["annotations"][:-2]:
            (x, y, width, height), image = each["bbox"], content["images"][each["image_id"] - 1]
            center = (x + width / 2) / image["width"], (y + height / 2) / image["height"]
            sides = width / image["width"], height / image["height"]
            label = {8: 0, 3: 1}[each["category_id"]]
            lines.setdefault(image["id"], []).append(" ".join(map(str, (label, *center, *sides))))
        (copy / "labels" / split).mkdir(parents=True)
        for number, text in lines.items():
            (copy / f"labels/{split}/{number}.txt").write_text("\n".join(text))
    (copy / "data.yaml").write_text("train: ../images/train\nnames: [bolt, nut]\n")


@pytest.fixture(autouse=True)
def guide(current_folder: Path) -> None:
    """Writes the guide's configs and their data into the current folder, and the config for YOLO labels."""
    write_data(Path("data"))
    write_own_configs("detection", Path("data"))
    write_yolo(Path("data"), Path("yolo"))
    write_config("detection", "yolo", "my_yolo_labels.py")


def test_yolo_labels_are_those_of_the_coco_file() -> None:
    names = ("my_detection.py", "my_yolo_labels.py")
    sections = [Config.fromfile(name)["val_dataloader"]["dataset"] for name in names]
    sections[0]["metainfo"] = sections[1]["metainfo"]  # without the ring
    coco, yolo = ([dataset.get_data_info(at) for at in range(4)] for dataset in map(DATASETS.build, sections))
    for expected, found in zip(coco[:3], yolo[:3], strict=True):
        boxes, labels = (
            [[each[key] for each in record["instances"]] for record in (expected, found)]
            for key in ("bbox", "bbox_label")
        )
        np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-9)
        assert labels[0] == labels[1]
    assert yolo[3]["instances"] == []
    section = Config.fromfile("my_yolo_labels.py")["train_dataloader"]["dataset"]
    assert len(DATASETS.build(section)) == 3  # the last image has no objects


@pytest.mark.parametrize("name", ["my_detection.py", "my-detr.py"])
@pytest.mark.filterwarnings("default:::transformers")
def test_config_of_the_guide_trains(name: str) -> None:
    runner = trained(name, SHORT)
    assert len(runner.train_dataloader.dataset) == 4
    loop: Any = runner.val_loop
    assert {"coco/bbox_mAP", "coco/bolt_precision", "coco/nut_precision"} <= loop.metrics.keys()
    assert loop.metrics["coco/bbox_mAP"] >= 0
    assert list(Path("out").glob("best_coco_bbox_mAP_epoch_*.pth"))
    assert len(list(Path("out").glob("*/vis_data/vis_image/val_*.png"))) == 4
