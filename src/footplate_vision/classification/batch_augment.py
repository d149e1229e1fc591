"""Batch augmentations that mix images and their labels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from footplate.checks import check_number
from footplate.errors import ArgumentError
from footplate.registry import MODELS
from footplate_vision.task_base import build_part

Batch = tuple[Tensor, Tensor]  # the inputs and their soft labels


class _Mixing(ABC):
    """Mixes each image with another image from the batch."""

    def __init__(self, alpha: float) -> None:
        check_number("alpha", alpha, above=0)
        self.alpha = alpha

    def __call__(self, inputs: Tensor, scores: Tensor) -> Batch:
        """Returns the mixed inputs, float ``(N, C, H, W)``, and the mixed soft labels, ``(N, num_classes)``."""
        share = float(np.random.beta(self.alpha, self.alpha))
        return self.mix(inputs, scores, torch.randperm(len(inputs)).to(inputs.device), share)

    @abstractmethod
    def mix(self, inputs: Tensor, scores: Tensor, others: Tensor, share: float) -> Batch:
        """Mixes image n with image `others[n]` and returns the inputs and soft labels.

        The weight of image n is about `share`.
        """


@MODELS.register_module()
class Mixup(_Mixing):
    """Blends each image with another image from the batch, and blends their labels with the same weights.

    Args:
        alpha: The weight of each image is sampled once per batch from a Beta(alpha, alpha) distribution.

    Raises:
        ArgumentError: `alpha` is not positive.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.
    """

    def mix(self, inputs: Tensor, scores: Tensor, others: Tensor, share: float) -> Batch:
        """Blends image n (weight `share`) and its label with image `others[n]` (weight ``1 - share``) and its label."""
        mixed = share * inputs + (1 - share) * inputs[others]
        return mixed, share * scores + (1 - share) * scores[others]


@MODELS.register_module()
class CutMix(_Mixing):
    """Replaces a rectangle of each image with the same rectangle of another image, and mixes the labels by area.

    Args:
        alpha: The fraction of the area that each image keeps is sampled once per batch from a Beta(alpha, alpha)
            distribution. The actual fraction is larger if the rectangle is clipped at the border of the image.

    Raises:
        ArgumentError: `alpha` is not positive.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv:1905.04899.
    """

    def mix(self, inputs: Tensor, scores: Tensor, others: Tensor, share: float) -> Batch:
        """Pastes a rectangle of image `others[n]` into image n and returns the inputs and soft labels.

        The rectangle covers about ``1 - share`` of the area, or less if it is clipped at the border.
        """
        height, width = inputs.shape[-2:]
        top, bottom = _draw_span(height, share)
        left, right = _draw_span(width, share)
        mixed = inputs.clone()
        mixed[..., top:bottom, left:right] = inputs[others, ..., top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, kept * scores + (1 - kept) * scores[others]


@MODELS.register_module()
class RandomBatchAugment:
    """Applies at most one randomly chosen augmentation to each batch.

    Args:
        augments: One or more augmentations, as objects or configs for MODELS.
        probs: The probability of each augmentation; equal by default. If their sum is below 1, some batches stay
            unchanged.

    Raises:
        ArgumentError: `augments` is empty, or `probs` has a different length, a negative value or a sum above 1.
    """

    def __init__(
        self, augments: Mapping[str, Any] | Sequence[Any] | _Mixing, probs: float | Sequence[float] | None = None
    ) -> None:
        parts: list[Any] = list(augments) if isinstance(augments, (list, tuple)) else [augments]
        self.augments: list[Any] = [
            part if callable(part) else build_part(f"augments[{place}]", part) for place, part in enumerate(parts)
        ]
        self.probs = [1 / len(parts) for _ in parts] if probs is None else np.atleast_1d(probs).tolist()
        if len(self.probs) != len(parts) or min(self.probs, default=-1) < 0 or sum(self.probs) > 1 + 1e-9:
            raise ArgumentError(
                "probs needs one non-negative probability per augmentation, with a sum of at most 1"
                if parts
                else "augments must not be empty",
                key="probs" if parts else "augments",
                found=probs if parts else augments,
            )

    def __call__(self, inputs: Tensor, scores: Tensor) -> Batch:
        """Applies at most one augmentation to the batch, and returns the inputs and soft labels."""
        remainder = np.random.random()
        for augment, prob in zip(self.augments, self.probs, strict=True):
            if remainder < prob:
                return augment(inputs, scores)  # type: ignore[no-any-return]
            remainder -= prob
        return inputs, scores


def _draw_span(length: int, share: float) -> tuple[int, int]:
    """Samples the start and end of a rectangle along an axis of the image.

    The rectangle has a random center and is clipped to the image. `length` is the size of the image along the axis.
    """
    middle, half = np.random.randint(length), length * (1 - share) ** 0.5 / 2
    return max(0, round(middle - half)), min(length, round(middle + half))
