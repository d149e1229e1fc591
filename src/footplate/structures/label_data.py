"""Labels of a whole picture."""

import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.structures.data_element import BaseDataElement


class LabelData(BaseDataElement):
    """Labels and scores of a whole picture, with the two ways to write several labels."""

    @staticmethod
    def onehot_to_label(onehot: Tensor) -> Tensor:
        """Returns the labels that are set.

        Args:
            onehot: ``(num_classes,)``, zeros and ones.

        Returns:
            ``(K,)``, int64, ascending.

        Raises:
            ArgumentError: It has another shape or other values.
        """
        if onehot.dim() != 1 or not ((onehot == 0) | (onehot == 1)).all():
            raise ArgumentError("one row of zeros and ones is needed", found=onehot)
        return onehot.nonzero().flatten()

    @staticmethod
    def label_to_onehot(label: Tensor, num_classes: int) -> Tensor:
        """Returns one at the labels and zero elsewhere.

        Args:
            label: ``(K,)``, integers below `num_classes`.
            num_classes: The number of classes.

        Returns:
            ``(num_classes,)`` of the type of `label`.

        Raises:
            ArgumentError: A label is out of range.
        """
        if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
            raise ArgumentError(f"a label is outside the {num_classes} classes", found=label.tolist())
        onehot = torch.zeros(num_classes, dtype=label.dtype, device=label.device)
        onehot[label.long()] = 1
        return onehot
