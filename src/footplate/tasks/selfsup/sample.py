"""What is known of one picture in self-supervision."""

from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from footplate.errors import ArgumentError
from footplate.structures import BaseDataElement

Part = Literal["train", "test"]


class SelfSupDataSample(BaseDataElement):
    """Features of one picture, and its class for the probes; `img_path`, `part` and kin are its metainfo.

    Attributes:
        features: What the network makes of the picture, ``(D,)``, float.
        gt_label: The true class, ``(1,)``, int64. Only probes look at it.
        part: What probes take the picture for: "train" to fit on, "test" to judge by.

    Example:
        >>> sample = SelfSupDataSample(metainfo=dict(part="test")).set_gt_label(3)
        >>> sample.part, sample.gt_label
        ('test', tensor([3]))
    """

    def set_gt_label(self, value: Any) -> Self:
        """Sets the true class.

        Raises:
            ArgumentError: It is no whole number.
        """
        label = torch.as_tensor(value)
        if label.numel() != 1 or label.is_floating_point() or label.dtype == torch.bool:
            raise ArgumentError("a label is a whole number", key="gt_label", found=value)
        self.gt_label: Tensor = label.reshape(1).long()
        return self
