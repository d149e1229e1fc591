"""The data preprocessor of self-supervised models."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from footplate.errors import DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS


@MODELS.register_module()
class SelfSupDataPreprocessor(ImgDataPreprocessor):
    """Normalises and stacks the images of each view; see `ImgDataPreprocessor` for the arguments."""

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """Returns the batch with `inputs` as a list of float tensors ``(N, C, H, W)``, one per view.

        Raises:
            DataError: `inputs` is missing or contains no images.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("inputs"), (list, tuple)) or not data["inputs"]:
            raise DataError("a batch of views is a dict with a list of them under 'inputs'", found=type(data))
        views, samples = data["inputs"], data.get("data_samples")
        if isinstance(views[0], Tensor) and views[0].dim() == 3:
            views = [views]  # a list of single images is one view
        stacked = [super(SelfSupDataPreprocessor, self).forward({"inputs": each})["inputs"] for each in views]
        return {"inputs": stacked, "data_samples": self.cast_data(samples)}
