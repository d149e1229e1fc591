"""Writes the made-up data of the reduced configs for images: `python -m benchmarks.repositories.data made_up`."""

import json
import sys
from pathlib import Path

import torch
from PIL import Image

from benchmarks.code_bases.made_up_data import made_up_keypoints, made_up_oriented_boxes, write_scenes


def write_photographs(data: Path) -> None:
    """Writes the images for segmentation as JPEG files, which first-generation code for ADE20K reads."""
    (data / "ade" / "photographs").mkdir()
    for path in (data / "ade" / "images" / "training").glob("*.png"):
        Image.open(path).save(data / "ade" / "photographs" / f"{path.stem}.jpg")


def write_people(data: Path) -> None:
    """Writes people in the layouts of COCO, AI Challenger and MPII, with their masks."""
    folder, boxes = data / "people", data / "coco" / "training.json"
    folder.mkdir()
    for name, number in (("coco", 17), ("aic", 14)):
        (folder / f"{name}.json").write_text(json.dumps(made_up_keypoints(boxes, number)))
    found = made_up_keypoints(boxes, 16)
    names = {image["id"]: image["file_name"] for image in found["images"]}
    people = []
    for each in found["annotations"]:
        (x, y, width, height), points = each["bbox"], each["keypoints"]
        joints = [points[3 * k : 3 * k + 2] for k in range(16)]
        person = {"image": names[each["image_id"]], "joints": joints, "joints_vis": [1] * 16}
        person |= {"center": [x + width / 2, y + height / 2], "scale": max(width, height) / 200}
        people.append(person | {"segmentation": each["segmentation"]})
    (folder / "mpii.json").write_text(json.dumps(people))


def write_boxes(data: Path) -> None:
    """Writes the boxes in the layout of MMDetection's `BaseDetDataset`."""
    found = json.loads((data / "coco" / "training.json").read_text())
    images = {image["id"]: {**image, "img_id": image["id"], "instances": []} for image in found["images"]}
    for image in images.values():
        image["img_path"] = f"{data}/coco/training/{image.pop('file_name')}"
    for each in found["annotations"]:
        x, y, width, height = each["bbox"]
        box = {"bbox": [x, y, x + width, y + height], "bbox_label": each["category_id"] % 3, "ignore_flag": 0}
        images[each["image_id"]]["instances"].append(box)
    content = {"metainfo": {"classes": ["c0", "c1", "c2"]}, "data_list": list(images.values())}
    (data / "boxes.json").write_text(json.dumps(content))


def write_weights(data: Path) -> None:
    """Writes a checkpoint with one layer of SM3Det's backbone, which cannot be initialized without a checkpoint."""
    layer = {f"backbone.downsample_layers.0.1.{name}": torch.ones(8) for name in ("weight", "bias")}
    torch.save({"state_dict": layer}, data / "convnext.pth")


def main(folder: str) -> None:
    """Writes four images with masks, boxes, oriented boxes and people."""
    data = Path(folder)
    write_scenes(data, 4)
    made_up_oriented_boxes(data)
    write_photographs(data)
    write_people(data)
    write_boxes(data)
    write_weights(data)


if __name__ == "__main__":
    main(sys.argv[1])
