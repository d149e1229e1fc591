"""mmcv, MMSegmentation, MMDetection and MMPretrain. `PLAIN` is classification with OpenCV alone."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import mmcv.transforms as mmcv
import mmdet.datasets.transforms as mmdet
import mmpretrain.datasets.transforms as mmpretrain
import mmseg.datasets.transforms as mmseg
import numpy as np
import torch
from mmengine.registry import DefaultScope

PACKAGES = ["mmcv-lite", "mmsegmentation", "mmdet", "mmpretrain", "opencv-python"]


def _chain(steps: Sequence[Any]) -> Callable[[dict[str, Any]], Any]:
    def run(results: dict[str, Any]) -> Any:
        results["seg_fields"], results["reduce_zero_label"] = [], True
        for step in steps:
            results = step(results)
        return results

    return run


DefaultScope.get_instance("data", scope_name="mmpretrain")
LOAD, FLIP = mmcv.LoadImageFromFile(), mmcv.RandomFlip(prob=0.5)
RESIZE, TURN, PACK = mmdet.Resize(scale=(1333, 800), keep_ratio=True), mmdet.RandomFlip(prob=0.5), mmdet.PackDetInputs()
BLUR = mmpretrain.GaussianBlur(magnitude_range=(0.1, 2.0), magnitude_std="inf", prob=0.5)
CROP = mmpretrain.RandomResizedCrop(224)
SEGMENTATION = [
    LOAD,
    mmseg.LoadAnnotations(),
    mmcv.RandomResize(scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    mmseg.RandomCrop(crop_size=(512, 512), cat_max_ratio=0.75),
    FLIP,
    mmseg.PhotoMetricDistortion(),
    mmseg.PackSegInputs(),
]


def _two_views(record: dict[str, Any]) -> Any:
    image = LOAD(record)["img"]
    views = [_chain([CROP, FLIP, BLUR])({"img": image})["img"] for _ in range(2)]
    return [torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1))) for view in views]


def _plain(record: dict[str, Any]) -> torch.Tensor:
    image = cv2.imread(record["img_path"])
    top, left, height, width = CROP.rand_crop_params(image)
    image = cv2.resize(image[top : top + height, left : left + width], (224, 224))
    image = cv2.flip(image, 1) if np.random.random() < 0.5 else image
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


PIPELINES = {
    "segmentation": _chain(SEGMENTATION),
    "boxes": _chain([LOAD, mmdet.LoadAnnotations(with_bbox=True), RESIZE, TURN, PACK]),
    "masks": _chain([LOAD, mmdet.LoadAnnotations(with_bbox=True, with_mask=True), RESIZE, TURN, PACK]),
    "classification": _chain([LOAD, CROP, FLIP, mmpretrain.PackInputs()]),
    "two-views": _two_views,
    "prediction": _chain([LOAD, RESIZE, PACK]),
    "classification-with-OpenCV-alone": _plain,
}
