"""A data element for the labels of a whole image."""

import torch
from torch import Tensor

from footplate.data.structures.data_element import BaseDataElement
from footplate.errors import ArgumentError


class LabelData(BaseDataElement):
    """A data element for labels and scores of a whole image, with conversions between indices and one-hot form."""

    @staticmethod
    def onehot_to_label(onehot: Tensor) -> Tensor:
        """Converts a one-hot (or multi-hot) tensor to class indices.

        Args:
            onehot: ``(num_classes,)``, zeros and ones.

        Returns:
            ``(K,)``, int64, ascending.

        Raises:
            ArgumentError: `onehot` has another shape or other values.
        """
        if onehot.dim() != 1 or not ((onehot == 0) | (onehot == 1)).all():
            raise ArgumentError("a one-hot label must be a one-dimensional tensor of zeros and ones", found=onehot)
        return onehot.nonzero().flatten()

    @staticmethod
    def label_to_onehot(label: Tensor, num_classes: int) -> Tensor:
        """Converts class indices to a one-hot (or multi-hot) tensor.

        Args:
            label: ``(K,)``, integers from 0 to `num_classes` - 1.
            num_classes: The number of classes.

        Returns:
            ``(num_classes,)``, of the dtype of `label`.

        Raises:
            ArgumentError: A label is out of range.
        """
        if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
            raise ArgumentError(f"labels must be from 0 to {num_classes - 1}", found=label.tolist())
        onehot = torch.zeros(num_classes, dtype=label.dtype, device=label.device)
        onehot[label.long()] = 1
        return onehot
