"""Test-time augmentation of segmentation models."""

from typing import Any

import torch

from footplate.data.structures import PixelData
from footplate.models import BaseTTAModel
from footplate.registry import MODELS
from footplate.tasks.segmentation.sample import SegDataSample


@MODELS.register_module()
class SegTTAModel(BaseTTAModel):
    """Averages the class probabilities over the views of an image. Models already undo flipping and resizing.

    Args:
        module: See `BaseTTAModel`.
        data_preprocessor: See `BaseTTAModel`.
    """

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[SegDataSample]:
        """Returns for each image the sample of its first unflipped view, with the mean probabilities of all views."""
        return [_merged(views) for views in data_samples_list]


def _merged(views: list[Any]) -> SegDataSample:
    probabilities = torch.stack([view.seg_logits.data.softmax(dim=0) for view in views]).mean(dim=0)
    chosen: SegDataSample = next((view for view in views if not view.get("flip", False)), views[0])
    chosen.seg_logits = PixelData(data=probabilities)
    chosen.pred_sem_seg = PixelData(data=probabilities.argmax(dim=0, keepdim=True))
    return chosen
