"""torchvision's transforms v2 on uint8 tensors. Pillow reads the files, as in torchvision's datasets."""

from typing import Any

import numpy as np
import torch
from faster_coco_eval import mask as tools
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

PACKAGES = ["torchvision", "pillow"]
FLIP, RESIZE = v2.RandomHorizontalFlip(), v2.Resize(800, max_size=1333)
COLORS = v2.RandomPhotometricDistort()
VIEW = v2.Compose([v2.RandomResizedCrop(224), FLIP, v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))])])
CROP = v2.Compose([v2.RandomResizedCrop(224), FLIP])


def _image(record: dict[str, Any]) -> Any:
    with Image.open(record["img_path"]) as image:
        return tv_tensors.Image(v2.functional.pil_to_tensor(image.convert("RGB")))


def _segmentation(record: dict[str, Any]) -> Any:
    image = _image(record)
    with Image.open(record["seg_map_path"]) as label_map:
        labels = np.array(label_map)
    labels[labels == 0] = 255
    labels = labels - 1
    labels[labels == 254] = 255
    ratio = np.random.uniform(0.5, 2.0)
    size = max(1, round(512 * ratio))
    mask = tv_tensors.Mask(torch.from_numpy(labels))
    image, mask = v2.Resize(size, max_size=max(size + 1, round(2048 * ratio)))(image, mask)
    for _ in range(10):
        crop, labels = v2.RandomCrop(512, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255})(
            image, mask
        )
        counts = torch.bincount(labels.flatten(), minlength=256)[:255]
        if (counts > 0).sum() > 1 and counts.max() / counts.sum() < 0.75:
            break
    return COLORS(*FLIP(crop, labels))


def _detection(record: dict[str, Any], with_masks: bool) -> Any:
    image, instances = _image(record), record["instances"]
    height, width = image.shape[-2:]
    boxes = torch.tensor([instance["bbox"] for instance in instances])
    target = {"boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))}
    if with_masks:
        masks = [tools.decode(tools.merge(tools.frPyObjects(each["mask"], height, width))) for each in instances]
        target["masks"] = tv_tensors.Mask(torch.from_numpy(np.stack(masks)))
    return FLIP(*RESIZE(image, target))


def _two_views(record: dict[str, Any]) -> Any:
    image = _image(record)
    return VIEW(image), VIEW(image)


PIPELINES = {
    "segmentation": _segmentation,
    "boxes": lambda record: _detection(record, False),
    "masks": lambda record: _detection(record, True),
    "classification": lambda record: CROP(_image(record)),
    "two-views": _two_views,
    "prediction": lambda record: RESIZE(_image(record)),
}
