"""Draws the image segmentation that Mask3D trains on, and adds it to nuScenes info files.

    python -m benchmarks.repositories.segmentations ROOT INFOS...

Mask3D takes the masks from a network for panoptic segmentation. Here, the mask of an object is the rectangle around its
box in the image; the remaining lower half of an image is flat ground, and the upper half is background. The images are
written to ROOT/segmentations, and each info file to a file whose name ends with `_seg`.
"""

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = [
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
    "flat",
    "background",
]


def rectangle(box: NDArray[Any], camera: dict[str, Any], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Returns the left, upper, right and lower pixel of a LiDAR box (7,) in an image, or None if it is not visible."""
    # As in MMDetection3D 0.x, which PETR and Mask3D were written for, the angle is clockwise from the negative y axis.
    width, length, height, angle = *box[3:6], -box[6] - np.pi / 2
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    corners *= (length, width, height)
    cos, sin = np.cos(angle), np.sin(angle)
    points = corners @ [[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]] + box[:3]
    points = (points - camera["sensor2lidar_translation"]) @ camera["sensor2lidar_rotation"]
    if points[:, 2].min() < 1:
        return None
    pixels = points @ np.asarray(camera["cam_intrinsic"]).T
    pixels = pixels[:, :2] / pixels[:, 2:]
    left, upper = np.clip(pixels.min(0), 0, size).astype(int)
    right, lower = np.clip(pixels.max(0), 0, size).astype(int)
    return (left, upper, right, lower) if right - left > 1 and lower - upper > 1 else None


def segment(info: dict[str, Any], root: Path) -> None:
    """Draws the segmentation of a sample's images, and adds its description to the info."""
    info["segmentation"] = {}
    info["gt_assigned_masks"] = np.full((len(info["gt_boxes"]), len(info["cams"])), -1)
    for view, (name, camera) in enumerate(info["cams"].items()):
        file = camera["data_path"].split("nuscenes/")[-1]
        with Image.open(root / file) as image:
            size = image.size
        drawn = np.zeros((size[1], size[0], 3), np.uint8)
        drawn[: size[1] // 2, :, 0], drawn[size[1] // 2 :, :, 0] = 1, 2
        masks = [{"category_id": CLASSES.index("background"), "id": 1}, {"category_id": CLASSES.index("flat"), "id": 2}]
        # Near objects hide far ones.
        for index in np.argsort(-np.linalg.norm(info["gt_boxes"][:, :2], axis=1)):
            area = rectangle(info["gt_boxes"][index], camera, size)
            if area is None or info["gt_names"][index] not in CLASSES:
                continue
            number = len(masks) + 1
            drawn[area[1] : area[3], area[0] : area[2], 0] = number
            info["gt_assigned_masks"][index, view] = len(masks)
            masks.append({"category_id": CLASSES.index(info["gt_names"][index]), "id": number})
        target = root / "segmentations" / file.replace("jpg", "png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(target)
        info["segmentation"][name] = {"segmentation": masks}


def main() -> None:
    """Writes the segmentations and the extended info files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("infos", type=Path, nargs="+")
    arguments = parser.parse_args()
    for path in arguments.infos:
        data = pickle.loads(path.read_bytes())
        for info in data["infos"]:
            segment(info, arguments.root)
        path.with_stem(f"{path.stem}_seg").write_bytes(pickle.dumps(data))


if __name__ == "__main__":
    main()
