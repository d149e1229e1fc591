"""Converts the results of first-generation models, which are arrays and lists, to data elements."""

from itertools import chain
from typing import Any

import numpy as np
import torch

from footplate.data.structures import BaseDataElement, InstanceData, PixelData


def as_data_element(result: Any) -> Any:
    """Converts the result of a first-generation model for one image to a data element. Returns other results unchanged.

    Args:
        result: An integer label map ``(H, W)``, class scores ``(C,)``, a list with an array of boxes and scores
            ``(N, 5)`` for each class, or a tuple of such a list and a list with the masks for each class.
    """
    if _is_array(result, 2, "iu"):
        return BaseDataElement(pred_sem_seg=PixelData(data=torch.as_tensor(result.copy())[None]))
    if _is_array(result, 1, "f"):
        scores = torch.as_tensor(result.copy())
        return BaseDataElement(pred_score=scores, pred_label=scores.argmax()[None])
    boxes, masks = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if isinstance(boxes, list) and boxes and all(_is_array(each, 2, "f") and each.shape[1] == 5 for each in boxes):
        return BaseDataElement(pred_instances=_instances(boxes, masks))
    return result


def _is_array(value: Any, ndim: int, kinds: str) -> bool:
    """Checks whether a value is an array with `ndim` dimensions whose dtype has one of the NumPy `kinds`."""
    return isinstance(value, np.ndarray) and value.ndim == ndim and value.dtype.kind in kinds


def _instances(boxes: list[Any], masks: Any) -> InstanceData:
    found = torch.as_tensor(np.concatenate(boxes))
    labels = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor([len(each) for each in boxes]))
    instances = InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels)
    masks = masks[0] if isinstance(masks, tuple) and masks else masks  # Mask Scoring R-CNN adds scores of the masks
    each_mask = list(chain.from_iterable(masks)) if isinstance(masks, list) else []
    if each_mask and len(each_mask) == len(labels) and all(_is_array(each, 2, "bu") for each in each_mask):
        instances.masks = torch.as_tensor(np.stack(each_mask).astype(bool))
    return instances
