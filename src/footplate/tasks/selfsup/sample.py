"""The data sample of self-supervised learning."""

from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from footplate.data.structures import BaseDataElement
from footplate.errors import ArgumentError

Part = Literal["train", "test"]


class SelfSupDataSample(BaseDataElement):
    """The features of one image, and its class for the probes; `img_path`, `part` etc. are metainfo.

    Attributes:
        features: The features of the image, ``(D,)``, float.
        gt_label: The true class, ``(1,)``, int64, used only by probes.
        part: How probes use the image: "train" to fit, "test" to evaluate.

    Example:
        >>> sample = SelfSupDataSample(metainfo=dict(part="test")).set_gt_label(3)
        >>> sample.part, sample.gt_label
        ('test', tensor([3]))
    """

    def set_gt_label(self, value: Any) -> Self:
        """Sets the true class.

        Raises:
            ArgumentError: It is not an integer.
        """
        label = torch.as_tensor(value)
        if label.numel() != 1 or label.is_floating_point() or label.dtype == torch.bool:
            raise ArgumentError("a label is a whole number", key="gt_label", found=value)
        self.gt_label: Tensor = label.reshape(1).long()
        return self
