"""From a batch of segmentation samples to what models take."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS
from footplate.structures import PixelData
from footplate.tasks.segmentation.sample import SegDataSample


@MODELS.register_module()
class SegDataPreProcessor(ImgDataPreprocessor):
    """Normalises pictures and pads them and their truth to one size, at the right and at the bottom.

    Args:
        mean: Subtracted from each channel.
        std: Divides each channel.
        size: Height and width to pad to; by default those of the largest picture of the batch.
        size_divisor: Height and width become multiples of it.
        pad_val: What pictures are padded with, after normalisation.
        seg_pad_val: What the truth is padded with, the label that loss and metrics ignore.
        bgr_to_rgb: Swap the first and the third channel.
        rgb_to_bgr: The same.
        batch_augments: In training, applied one after the other as `augment(inputs, data_samples)`.
        test_cfg: Accepted for configs that set it: `size` or `size_divisor` outside of training.

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
        """Returns `inputs`, float ``(N, C, H, W)``, and `data_samples`, in training with their truth padded alike.

        Raises:
            DataError: `inputs` is missing or holds no pictures.
        """
        batch: dict[str, Any] = super().forward(data, training=False)
        padding = self._train_padding if training else self._test_padding
        batch["inputs"] = padding(batch["inputs"], self.pad_value)
        samples = batch["data_samples"]
        if samples is not None:
            shape = batch["inputs"].shape[-2:]
            # Only a loss needs the truth at the size of the inputs: predictions are brought to that of the truth.
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
    """Makes height and width at least `size` or multiples of `divisor`."""

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
