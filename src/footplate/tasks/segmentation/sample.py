"""The data sample of segmentation, and the transform and the preprocessor that fill it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.data.structures import BaseDataElement, PixelData
from footplate.errors import ArgumentError, DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS, TRANSFORMS
from footplate.tasks.task_base import as_planes, chosen, loaded

_META_KEYS = (
    "img_path",
    "seg_map_path",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "reduce_zero_label",
)


class SegDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_sem_seg: The true classes, `data` of ``(1, H, W)``, integers.
        pred_sem_seg: The predicted classes, `data` of ``(1, H, W)``, int64.
        seg_logits: The scores before softmax, `data` of ``(C, H, W)``, float.

    Example:
        >>> import torch
        >>> from footplate.data.structures import PixelData
        >>> sample = SegDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_sem_seg = PixelData(data=torch.zeros(8, 8))
        >>> sample.img_path, sample.gt_sem_seg.shape
        ('a.png', (8, 8))
    """

    @property
    def gt_sem_seg(self) -> PixelData:
        """The true classes."""
        value: PixelData = self._gt_sem_seg
        return value

    @gt_sem_seg.setter
    def gt_sem_seg(self, value: PixelData) -> None:
        self.set_field(value, "_gt_sem_seg", dtype=PixelData)

    @gt_sem_seg.deleter
    def gt_sem_seg(self) -> None:
        del self._gt_sem_seg

    @property
    def pred_sem_seg(self) -> PixelData:
        """The predicted classes."""
        value: PixelData = self._pred_sem_seg
        return value

    @pred_sem_seg.setter
    def pred_sem_seg(self, value: PixelData) -> None:
        self.set_field(value, "_pred_sem_seg", dtype=PixelData)

    @pred_sem_seg.deleter
    def pred_sem_seg(self) -> None:
        del self._pred_sem_seg

    @property
    def seg_logits(self) -> PixelData:
        """The scores of all classes."""
        value: PixelData = self._seg_logits
        return value

    @seg_logits.setter
    def seg_logits(self, value: PixelData) -> None:
        self.set_field(value, "_seg_logits", dtype=PixelData)

    @seg_logits.deleter
    def seg_logits(self) -> None:
        del self._seg_logits


@TRANSFORMS.register_module()
class PackSegInputs:
    """Packs the results of a pipeline into the inputs of segmentation models.

    The results contain `img`, ``(H, W, 3)`` or ``(H, W)``, and, if the ground truth is known, `gt_seg_map`, ``(H, W)``.

    Args:
        meta_keys: The keys to store as metainfo, if present.

    Raises:
        DataError: There is no image, or a label is out of the range of `num_classes`.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def __call__(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs`, a tensor ``(C, H, W)`` of the image's dtype, and `data_samples`, a SegDataSample."""
        image = np.asarray(loaded(results))
        sample = SegDataSample(metainfo={"img_shape": image.shape[:2], **chosen(results, self.meta_keys)})
        if "gt_seg_map" in results:
            labels = np.asarray(results["gt_seg_map"]).astype(np.int64)
            if "num_classes" in results:
                _check_labels(labels, results)
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels))
        return {"inputs": as_planes(image), "data_samples": sample}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(meta_keys={self.meta_keys})"


def _check_labels(labels: npt.NDArray[np.int64], results: Mapping[str, Any]) -> None:
    count, ignored = results["num_classes"], results.get("ignore_index", 255)
    if labels.size and labels.min() >= 0 and labels.max() < count:
        return
    outside = np.unique(labels[((labels < 0) | (labels >= count)) & (labels != ignored)])
    if outside.size:
        path = results.get("seg_map_path", results.get("img_path", ""))
        raise DataError(
            f"the label map '{path}' holds class {outside[0]}, there are {count}",
            notes=[f"classes are 0 to {count - 1}, {ignored} does not count"],
        )


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
