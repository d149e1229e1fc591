"""The transforms of ultralytics' loaders. Images are resized to 1067 x 800, as in the other libraries."""

from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from ultralytics.data.augment import Format, LetterBox, RandomFlip, classify_augmentations
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import resample_segments

PACKAGES = ["ultralytics", "opencv-python"]
BOX, FLIP = LetterBox((800, 1067), auto=False), RandomFlip(p=0.5, direction="horizontal")
BOXES, MASKS = Format(), Format(return_mask=True, mask_ratio=1, mask_overlap=False)
CLASSIFY = classify_augmentations(size=224, auto_augment=None, hsv_h=0, hsv_s=0, hsv_v=0, hflip=0.5)


def _detection(record: dict[str, Any], with_masks: bool) -> Any:
    image, instances = cv2.imread(record["img_path"]), record["instances"]
    polygons = [np.array(each["mask"][0], np.float32).reshape(-1, 2) for each in instances] if with_masks else []
    segments = np.stack(resample_segments(polygons, n=1000)) if polygons else np.zeros((0, 1000, 2), np.float32)
    boxes = np.array([each["bbox"] for each in instances], np.float32)
    labels = {
        "img": image,
        "cls": np.array([[each["bbox_label"]] for each in instances], np.float32),
        "instances": Instances(boxes, segments, bbox_format="xyxy", normalized=False),
        "im_file": record["img_path"],
        "ori_shape": image.shape[:2],
        "resized_shape": image.shape[:2],
    }
    return (MASKS if with_masks else BOXES)(FLIP(BOX(labels)))


def _classification(record: dict[str, Any]) -> Any:
    return CLASSIFY(Image.fromarray(cv2.cvtColor(cv2.imread(record["img_path"]), cv2.COLOR_BGR2RGB)))


def _prediction(record: dict[str, Any]) -> torch.Tensor:
    image = BOX(image=cv2.imread(record["img_path"]))
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


PIPELINES = {
    "boxes": lambda record: _detection(record, False),
    "masks": lambda record: _detection(record, True),
    "classification": _classification,
    "prediction": _prediction,
}
