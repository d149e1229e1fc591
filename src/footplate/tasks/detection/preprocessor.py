"""From a batch of detection samples to what models take."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F

from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS
from footplate.tasks.detection.sample import DetDataSample


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Normalises pictures and pads them to one size, at the right and at the bottom, where boxes need no change.

    Notes `batch_input_shape`, the size of all pictures of the batch, and `pad_shape` in each sample.

    Args:
        mean: Subtracted from each channel.
        std: Divides each channel.
        pad_size_divisor: Height and width become multiples of it.
        pad_value: What pictures are padded with, after normalisation.
        pad_mask: Whether masks of the truth are padded to the size of their picture.
        mask_pad_value: What they are padded with.
        bgr_to_rgb: Swap the first and the third channel.
        rgb_to_bgr: The same.
        non_blocking: As of BaseDataPreprocessor.
        batch_augments: In training, applied one after the other as `augment(inputs, data_samples)`.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        non_blocking: bool | None = False,
        batch_augments: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            mean=mean,
            std=std,
            pad_size_divisor=pad_size_divisor,
            pad_value=pad_value,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            non_blocking=non_blocking,
            batch_augments=batch_augments,
        )
        self.pad_mask = pad_mask
        self.mask_pad_value = mask_pad_value

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """Returns `inputs`, float ``(N, C, H, W)``, and `data_samples` that know the size of the batch.

        Raises:
            DataError: `inputs` is missing or holds no pictures.
        """
        batch: dict[str, Any] = super().forward(data, training=False)
        shape = tuple(batch["inputs"].shape[-2:])
        for sample in batch["data_samples"] or ():
            sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
            if self.pad_mask:
                self._pad_masks(sample, shape)
        if training:
            for augment in self.batch_augments:
                batch["inputs"], batch["data_samples"] = augment(batch["inputs"], batch["data_samples"])
        return batch

    def _pad_masks(self, sample: DetDataSample, shape: tuple[int, ...]) -> None:
        instances = sample.get("gt_instances")
        if instances is not None and "masks" in instances:
            bottom, right = shape[0] - instances.masks.shape[-2], shape[1] - instances.masks.shape[-1]
            instances.masks = F.pad(instances.masks, (0, right, 0, bottom), value=self.mask_pad_value)
