"""The data preprocessor of classification models."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS
from footplate.tasks.classification.mixing import RandomBatchAugment
from footplate.tasks.classification.sample import ClsDataSample, labels_of


@MODELS.register_module()
class ClsDataPreprocessor(ImgDataPreprocessor):
    """Normalises images, pads them to the same size, and applies batch augmentations in training.

    Args:
        mean: The value subtracted from each channel.
        std: The value that divides each channel.
        pad_size_divisor: Height and width are padded to multiples of it.
        pad_value: The padding value of images, applied after normalisation.
        to_rgb: Whether to swap the first and the third channel.
        to_onehot: Whether to set `gt_score` of samples to one-hot labels.
        num_classes: The number of classes; required by `to_onehot` and `batch_augments`.
        batch_augments: Arguments of RandomBatchAugment, `dict(augments=[dict(type="Mixup", alpha=0.2)])`, or a list
            of augmentations.

    Raises:
        ArgumentError: `num_classes` is required but not given.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        to_rgb: bool = False,
        to_onehot: bool = False,
        num_classes: int | None = None,
        batch_augments: Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> None:
        super().__init__(mean=mean, std=std, pad_size_divisor=pad_size_divisor, pad_value=pad_value, bgr_to_rgb=to_rgb)
        self.to_onehot = to_onehot
        self.num_classes = num_classes
        with at_key("batch_augments"):
            self.mixing = _build_mixing(batch_augments)
        if (to_onehot or self.mixing is not None) and num_classes is None:
            raise ArgumentError("writing the truth as scores needs the number of classes", key="num_classes")

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """Returns `inputs`, float ``(N, C, H, W)``, and `data_samples`; samples of mixed images have `gt_score`.

        Raises:
            DataError: `inputs` is missing or contains no images, or a sample to mix has no valid ground truth.
        """
        batch: dict[str, Any] = super().forward(data, training=False)
        samples = batch["data_samples"]
        if training and self.mixing is not None:
            if samples is None:
                raise DataError("pictures are mixed with their truth, and the batch has no 'data_samples'")
            scores = self._scores(samples, batch["inputs"])
            batch["inputs"], scores = self.mixing(batch["inputs"], scores)
            _set_scores(samples, scores)
        elif self.to_onehot and samples is not None and all("gt_label" in sample for sample in samples):
            _set_scores(samples, self._scores(samples, batch["inputs"]))
        return batch

    def _scores(self, samples: Sequence[ClsDataSample], inputs: Tensor) -> Tensor:
        """Returns the soft or multi-hot labels of samples, ``(N, num_classes)``."""
        scores = inputs.new_zeros(len(samples), self.num_classes or 0)
        with at_key("model.data_preprocessor.num_classes"):
            for row, sample in zip(scores, samples, strict=True):
                if "gt_score" in sample:
                    row += sample.gt_score
                else:
                    row[labels_of(sample, self.num_classes)] = 1
        return scores


def _set_scores(samples: Sequence[ClsDataSample], scores: Tensor) -> None:
    for sample, row in zip(samples, scores, strict=True):
        sample.set_gt_score(row)


def _build_mixing(cfg: Mapping[str, Any] | Sequence[Any] | None) -> RandomBatchAugment | None:
    if not cfg:
        return None
    return RandomBatchAugment(**cfg) if isinstance(cfg, Mapping) else RandomBatchAugment(cfg)
