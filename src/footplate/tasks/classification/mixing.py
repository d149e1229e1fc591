"""Pictures mixed with others of their batch, and their truth with them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.registry import MODELS


class _Mixing(ABC):
    """Mixes every picture of a batch with another one.

    Args:
        alpha: Both parameters of the Beta distribution that the share of the first picture is drawn from.
    """

    def __init__(self, alpha: float) -> None:
        if not alpha > 0:
            raise ArgumentError("alpha must be above 0", key="alpha", found=alpha)
        self.alpha = alpha

    def __call__(self, inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mixed batch.

        Args:
            inputs: ``(N, C, H, W)``, float.
            scores: ``(N, num_classes)``, how much each class is true.

        Returns:
            Both of the same shapes.
        """
        share = float(np.random.beta(self.alpha, self.alpha))
        return self.mix(inputs, scores, torch.randperm(len(inputs)).to(inputs.device), share)

    @abstractmethod
    def mix(self, inputs: Tensor, scores: Tensor, others: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Mixes picture n with picture `others[n]`, of which the first keeps about `share`."""


@MODELS.register_module()
class Mixup(_Mixing):
    """Adds two pictures, weighted, and their truth with the same weights.

    Args:
        alpha: Both parameters of the Beta distribution of the first one's weight.

    Raises:
        ArgumentError: `alpha` is not positive.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.
    """

    def mix(self, inputs: Tensor, scores: Tensor, others: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Weighs picture n with `share` and picture `others[n]` with the rest."""
        mixed = share * inputs + (1 - share) * inputs[others]
        return mixed, share * scores + (1 - share) * scores[others]


@MODELS.register_module()
class CutMix(_Mixing):
    """Lays a rectangle of another picture over each one, and mixes their truth by area.

    Args:
        alpha: Both parameters of the Beta distribution of the first one's share before the rectangle is cut at
            the picture's border.

    Raises:
        ArgumentError: `alpha` is not positive.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv:1905.04899.
    """

    def mix(self, inputs: Tensor, scores: Tensor, others: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Takes a rectangle of about 1 - `share` of the area from picture `others[n]`."""
        height, width = inputs.shape[-2:]
        top, bottom = _draw_span(height, share)
        left, right = _draw_span(width, share)
        mixed = inputs.clone()
        mixed[..., top:bottom, left:right] = inputs[others, ..., top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, kept * scores + (1 - kept) * scores[others]


@MODELS.register_module()
class RandomBatchAugment:
    """Applies one of several augmentations to each batch, drawn by lot.

    Args:
        augments: One or several, objects or dicts for MODELS.
        probs: How often each acts; the rest of 1 leaves the batch as it is. Equal shares by default.

    Raises:
        ArgumentError: There is none, or `probs` has another length or exceeds 1.
    """

    def __init__(
        self, augments: Mapping[str, Any] | Sequence[Any] | _Mixing, probs: float | Sequence[float] | None = None
    ) -> None:
        several = list(augments) if isinstance(augments, (list, tuple)) else [augments]
        self.augments = [_build(each, place) for place, each in enumerate(several)]
        if not self.augments:
            raise ArgumentError("one augmentation or more", key="augments", found=augments)
        given = [probs] if isinstance(probs, (int, float)) else probs
        self.probs = [1 / len(several)] * len(several) if given is None else list(given)
        if len(self.probs) != len(several) or min(self.probs) < 0 or sum(self.probs) > 1 + 1e-9:
            raise ArgumentError("one share for each augmentation, together at most 1", key="probs", found=probs)

    def __call__(self, inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the batch, changed by at most one of the augmentations."""
        lot = np.random.random()
        for augment, prob in zip(self.augments, self.probs, strict=True):
            if lot < prob:
                mixed: tuple[Tensor, Tensor] = augment(inputs, scores)
                return mixed
            lot -= prob
        return inputs, scores


def _build(augment: Any, place: int) -> Any:
    if callable(augment):
        return augment
    with at_key(f"augments[{place}]"):
        return MODELS.build(augment)


def _draw_span(length: int, share: float) -> tuple[int, int]:
    """Where a side of the rectangle begins and ends: its middle is anywhere, its ends stay in the picture."""
    middle, half = np.random.randint(length), length * (1 - share) ** 0.5 / 2
    return max(0, round(middle - half)), min(length, round(middle + half))
