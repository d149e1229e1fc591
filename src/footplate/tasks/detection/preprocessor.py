"""The data preprocessor of detection models."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F

from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS
from footplate.tasks.detection.sample import DetDataSample


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Normalises images and pads them to the same size at the right and bottom, so that boxes stay valid.

    Sets `batch_input_shape`, the padded size of the batch, and `pad_shape` in each sample.

    Args:
        mean: The value subtracted from each channel.
        std: The value that divides each channel.
        pad_size_divisor: Height and width are padded to multiples of it.
        pad_value: The padding value of images, applied after normalisation.
        pad_mask: Whether to pad the true masks to the size of the images.
        mask_pad_value: The padding value of masks.
        bgr_to_rgb: Whether to swap the first and the third channel.
        rgb_to_bgr: Same as above.
        non_blocking: See `BaseDataPreprocessor`.
        batch_augments: Batch augmentations, applied in order in training as `augment(inputs, data_samples)`.
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
        """Returns `inputs`, float ``(N, C, H, W)``, and `data_samples` with the size of the batch.

        Raises:
            DataError: `inputs` is missing or contains no images.
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
