"""Albumentations, with OpenCV as the reader."""

from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from faster_coco_eval import mask as tools

PACKAGES = ["albumentations", "opencv-python-headless"]
FLIP, PACK = A.HorizontalFlip(p=0.5), ToTensorV2()
RESIZE = A.Compose([A.LongestMaxSize(max_size=1067)])  # as (1333, 800) with keep_ratio does to 1280 x 960
COLORS = A.ColorJitter(brightness=0.13, contrast=0.5, saturation=0.5, hue=0.1, p=1)
SEGMENTATION = A.Compose([A.RandomCrop(512, 512, pad_if_needed=True, fill_mask=255), FLIP, COLORS, PACK])
BOXES = A.BboxParams(format="pascal_voc", label_fields=["labels"])
DETECTION = A.Compose([A.LongestMaxSize(max_size=1067), FLIP, PACK], bbox_params=BOXES)
CROP = A.Compose([A.RandomResizedCrop((224, 224)), FLIP, PACK])
VIEW = A.Compose(
    [A.RandomResizedCrop((224, 224)), FLIP, A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=0.5), PACK]
)


def _image(record: dict[str, Any]) -> Any:
    return cv2.imread(record["img_path"], cv2.IMREAD_COLOR_RGB)


def _segmentation(record: dict[str, Any]) -> Any:
    image, labels = _image(record), cv2.imread(record["seg_map_path"], cv2.IMREAD_UNCHANGED)
    labels = cv2.LUT(labels, np.array([255, *range(254), 255], np.uint8))
    height, width = image.shape[:2]
    scale = min(2048 / width, 512 / height) * np.random.uniform(0.5, 2.0)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    image, labels = cv2.resize(image, size), cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    return SEGMENTATION(image=image, mask=labels)


def _detection(record: dict[str, Any], with_masks: bool) -> Any:
    image, instances = _image(record), record["instances"]
    height, width = image.shape[:2]
    masks = {}
    if with_masks:
        made = [tools.decode(tools.merge(tools.frPyObjects(each["mask"], height, width))) for each in instances]
        masks = {"masks": made}
    boxes, labels = [each["bbox"] for each in instances], [each["bbox_label"] for each in instances]
    return DETECTION(image=image, bboxes=boxes, labels=labels, **masks)


def _two_views(record: dict[str, Any]) -> Any:
    image = _image(record)
    return VIEW(image=image), VIEW(image=image)


PIPELINES = {
    "segmentation": _segmentation,
    "boxes": lambda record: _detection(record, False),
    "masks": lambda record: _detection(record, True),
    "classification": lambda record: CROP(image=_image(record)),
    "two-views": _two_views,
    "prediction": lambda record: torch.from_numpy(RESIZE(image=_image(record))["image"]).permute(2, 0, 1).contiguous(),
}
