"""Writes the images, label maps and polygons that all libraries read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

COUNT, WIDTH, HEIGHT = 20, 1280, 960
_CLASSES, _OBJECTS = 150, 8


def write(folder: Path) -> None:
    """Writes JPEG files of 1280 x 960 pixels, label maps of 150 classes and records with eight polygons each."""
    from PIL import Image  # missing in some libraries' environments, which only read

    folder.mkdir(parents=True, exist_ok=True)
    rng, found = np.random.default_rng(0), []
    for number in range(COUNT):
        small = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
        pixels += rng.integers(-12, 13, pixels.shape)
        image, label_map = folder / f"{number:02}.jpg", folder / f"{number:02}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(image, quality=90)
        labels = Image.fromarray(rng.integers(0, _CLASSES, (12, 16), dtype=np.uint8))
        labels.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(label_map)
        polygons = []
        for _ in range(_OBJECTS):
            angles = np.sort(rng.uniform(0, 2 * np.pi, 24))
            corners = rng.uniform([200, 200], [1000, 700]) + rng.uniform(60, 180) * np.stack(
                [np.cos(angles), np.sin(angles)], axis=1
            )
            polygons.append(corners.clip(0, [WIDTH - 1, HEIGHT - 1]).tolist())
        found.append({"img_path": str(image), "seg_map_path": str(label_map), "polygons": polygons})
    (folder / "records.json").write_text(json.dumps(found))


def records(folder: Path) -> list[dict[str, Any]]:
    """Returns a record for each image, with `instances` as in COCO datasets of OpenMMLab."""
    found = json.loads((folder / "records.json").read_text())
    for number, record in enumerate(found):
        corners = [np.array(polygon) for polygon in record.pop("polygons")]
        record["instances"] = [
            {
                "bbox": [*polygon.min(0).tolist(), *polygon.max(0).tolist()],
                "bbox_label": label,
                "ignore_flag": 0,
                "mask": [polygon.ravel().tolist()],
            }
            for label, polygon in enumerate(corners)
        ]
        record.update(height=HEIGHT, width=WIDTH, img_id=number, gt_label=3)
    return found  # type: ignore[no-any-return]
