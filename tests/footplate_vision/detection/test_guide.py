"""The guide `docs/tasks/detection.md` is correct: its configs train on a COCO file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.footplate_vision.guides import TWO_EPOCHS, trained, write_configs

SHORT = [
    *TWO_EPOCHS,
    "train_dataloader.batch_size=2",
    "train_dataloader.dataset.pipeline.2.scale=[96,64]",
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


@pytest.mark.parametrize("name", ["my-boxes.py", "my-detr.py"])
@pytest.mark.filterwarnings("default:::transformers")
def test_config_of_the_guide_trains(current_folder: Path, name: str) -> None:
    write_data(current_folder / "data")
    write_configs("detection", current_folder)
    runner = trained(name, SHORT)
    assert len(runner.train_dataloader.dataset) == 4
    loop: Any = runner.val_loop
    assert {"coco/bbox_mAP", "coco/bolt_precision", "coco/nut_precision"} <= loop.metrics.keys()
    assert loop.metrics["coco/bbox_mAP"] >= 0
    assert list(Path("out").glob("best_coco_bbox_mAP_epoch_*.pth"))
    assert len(list(Path("out").glob("*/vis_data/vis_image/val_*.png"))) == 4
