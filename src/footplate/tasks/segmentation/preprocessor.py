"""The data preprocessor of segmentation models."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS
from footplate.tasks.segmentation.sample import SegDataSample


@MODELS.register_module()
class SegDataPreProcessor(ImgDataPreprocessor):
    """Normalises images, and pads images and label maps to the same size at the right and bottom.

    Args:
        mean: The value subtracted from each channel.
        std: The value that divides each channel.
        size: The height and width to pad to; by default those of the largest image of the batch.
        size_divisor: Height and width are padded to multiples of it.
        pad_val: The padding value of images, applied after normalisation.
        seg_pad_val: The padding value of label maps; use the label that the loss ignores.
        bgr_to_rgb: Whether to swap the first and the third channel.
        rgb_to_bgr: Same as above.
        batch_augments: Batch augmentations, applied in order in training as `augment(inputs, data_samples)`.
        test_cfg: `size` or `size_divisor` for validation and test.

    Raises:
        ArgumentError: Both `size` and `size_divisor` are given.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: tuple[int, int] | None = None,
        size_divisor: int | None = None,
        pad_val: float = 0,
        seg_pad_val: int = 255,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        batch_augments: Sequence[Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            mean=mean,
            std=std,
            pad_value=pad_val,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            batch_augments=batch_augments,
        )
        self.seg_pad_val = seg_pad_val
        self._train_padding = _Padding.of(size, size_divisor)
        test = test_cfg or {}
        self._test_padding = _Padding.of(test.get("size"), test.get("size_divisor"))

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """Returns `inputs`, float ``(N, C, H, W)``, and `data_samples`; in training, their label maps are padded too.

        Raises:
            DataError: `inputs` is missing or contains no images.
        """
        batch: dict[str, Any] = super().forward(data, training=False)
        padding = self._train_padding if training else self._test_padding
        batch["inputs"] = padding(batch["inputs"], self.pad_value)
        samples = batch["data_samples"]
        if samples is not None:
            shape = batch["inputs"].shape[-2:]
            # Only the loss needs label maps at the input size; predictions are resized to the original image.
            batch["data_samples"] = [self._padded(sample, shape, truth=training) for sample in samples]
        if training:
            for augment in self.batch_augments:
                batch["inputs"], batch["data_samples"] = augment(batch["inputs"], batch["data_samples"])
        return batch

    def _padded(self, sample: SegDataSample, shape: torch.Size, *, truth: bool) -> SegDataSample:
        sample.set_metainfo({"pad_shape": tuple(shape)})
        known = sample.get("gt_sem_seg") if truth else None
        if known is not None and known.shape != tuple(shape):
            labels = known.data
            right, bottom = shape[1] - labels.shape[-1], shape[0] - labels.shape[-2]
            sample.gt_sem_seg = PixelData(data=F.pad(labels, (0, right, 0, bottom), value=self.seg_pad_val))
        return sample


class _Padding:
    """Pads images to at least `size`, or to multiples of `divisor`."""

    def __init__(self, size: tuple[int, int] | None, divisor: int) -> None:
        self.size, self.divisor = size, divisor

    @classmethod
    def of(cls, size: tuple[int, int] | None, divisor: int | None) -> "_Padding":
        if size is not None and divisor is not None:
            raise ArgumentError("pictures are padded to a size or to a multiple, not to both", key="size_divisor")
        return cls(size, divisor or 1)

    def __call__(self, inputs: Tensor, value: float) -> Tensor:
        height, width = inputs.shape[-2:]
        least = self.size or (0, 0)
        bottom = max(least[0], -(-height // self.divisor) * self.divisor) - height
        right = max(least[1], -(-width // self.divisor) * self.divisor) - width
        return F.pad(inputs, (0, right, 0, bottom), value=value) if right or bottom else inputs
