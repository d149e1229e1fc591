"""Converts the results of first-generation models to data elements."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch

from footplate.data.data_element import BaseDataElement
from footplate_vision.structures import InstanceData, PixelData


def original_shape(sample: Any) -> dict[str, Any]:
    """Returns the `ori_shape` of a first-generation sample as a metainfo dict, or {} if the sample has none."""
    metas = sample.get("img_metas") if isinstance(sample, Mapping) else None
    while isinstance(metas, (list, tuple)) and metas:  # several views
        metas = metas[0]
    metas = getattr(metas, "data", metas)
    return {"ori_shape": tuple(metas["ori_shape"])} if isinstance(metas, Mapping) and "ori_shape" in metas else {}


def as_data_element(result: Any, metainfo: Mapping[str, Any] | None = None) -> Any:
    """Converts a first-generation model's result for one image to a data element.

    Results in any other format than the ones below are returned unchanged.

    Args:
        result: An integer label map ``(H, W)``; class scores ``(C,)``; a list with one array of boxes and scores,
            ``(N, 5)`` or, with rotated boxes, ``(N, 6)``, per class; a tuple of such a list and a list with the masks
            of each class; or a dict whose `preds` are keypoints with scores ``(N, K, 3)``.
        metainfo: The metainfo of the data element.
    """
    if _is_array(result, 2, "iu"):
        return BaseDataElement(metainfo=metainfo, pred_sem_seg=PixelData(data=torch.as_tensor(result.copy())[None]))
    if _is_array(result, 1, "f"):
        scores = torch.as_tensor(result.copy())
        return BaseDataElement(metainfo=metainfo, pred_score=scores, pred_label=scores.argmax()[None])
    if isinstance(result, Mapping) and _is_array(result.get("preds"), 3, "f"):  # of a pose model
        points = torch.as_tensor(result["preds"].copy())
        instances = InstanceData(keypoints=points[..., :2], keypoint_scores=points[..., 2])
        return BaseDataElement(metainfo=metainfo, pred_instances=instances)
    boxes, masks = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if isinstance(boxes, list) and boxes and all(_is_array(rows, 2, "f") and rows.shape[1] in (5, 6) for rows in boxes):
        return BaseDataElement(metainfo=metainfo, pred_instances=_instances(boxes, masks))
    return result


def _is_array(value: Any, ndim: int, kinds: str) -> bool:
    """Checks whether a value is an array with `ndim` dimensions and a dtype kind in `kinds`, such as "iu"."""
    return isinstance(value, np.ndarray) and value.ndim == ndim and value.dtype.kind in kinds


def _instances(boxes: list[Any], masks: Any) -> InstanceData:
    rows = torch.as_tensor(np.concatenate(boxes))
    labels = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor([len(array) for array in boxes]))
    instances = InstanceData(bboxes=rows[:, :-1], scores=rows[:, -1], labels=labels)
    masks = masks[0] if isinstance(masks, tuple) and masks else masks  # Mask Scoring R-CNN adds mask scores
    arrays = list(chain.from_iterable(masks)) if isinstance(masks, list) else []
    if arrays and len(arrays) == len(labels) and all(_is_array(array, 2, "bu") for array in arrays):
        instances.masks = torch.as_tensor(np.stack(arrays).astype(bool))
    return instances
