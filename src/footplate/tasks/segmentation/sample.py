"""The data sample for segmentation, and the transform and the preprocessor that fill it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from footplate.data import BaseTransform
from footplate.data.structures import BaseDataElement, PixelData
from footplate.errors import ArgumentError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS, TRANSFORMS
from footplate.tasks.task_base import check_classes, data_field, image_to_tensor, loaded_image, select_keys

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
        gt_sem_seg: The ground-truth classes; `data` contains integers ``(1, H, W)``.
        pred_sem_seg: The predicted classes; `data` is an int64 tensor ``(1, H, W)``.
        seg_logits: The scores before softmax; `data` is a float tensor ``(C, H, W)``.

    Example:
        >>> import torch
        >>> from footplate.data.structures import PixelData
        >>> sample = SegDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_sem_seg = PixelData(data=torch.zeros(8, 8))
        >>> sample.img_path, sample.gt_sem_seg.shape
        ('a.png', (8, 8))
    """

    gt_sem_seg = data_field("gt_sem_seg", PixelData)
    pred_sem_seg = data_field("pred_sem_seg", PixelData)
    seg_logits = data_field("seg_logits", PixelData)


@TRANSFORMS.register_module()
class PackSegInputs(BaseTransform):
    """Packs the results of a pipeline into the inputs of segmentation models.

    The results contain `img` of shape ``(H, W, 3)`` or ``(H, W)`` and, if the ground truth is known, `gt_seg_map` of
    shape ``(H, W)``.

    Args:
        meta_keys: The keys to store as metainfo, if present.

    Raises:
        DataError: There is no image, or a label is out of the range of `num_classes`.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs` (a tensor ``(C, H, W)`` of the image's dtype) and `data_samples` (a SegDataSample)."""
        image = np.asarray(loaded_image(results))
        sample = SegDataSample(metainfo={"img_shape": image.shape[:2], **select_keys(results, self.meta_keys)})
        if "gt_seg_map" in results:
            labels = np.asarray(results["gt_seg_map"]).astype(np.int64)
            if "num_classes" in results:
                count, ignored = results["num_classes"], results.get("ignore_index", 255)
                wrong = (labels < 0) | (labels >= count)  # selecting labels would copy the label map
                wrong &= labels != ignored
                if wrong.any():
                    path = results.get("seg_map_path", results.get("img_path", ""))
                    notes = [f"Classes are 0 to {count - 1}; {ignored} marks ignored pixels."]
                    check_classes(f"label map '{path}'", labels[wrong], count, notes=notes)
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels))
        return {"inputs": image_to_tensor(image), "data_samples": sample}


@MODELS.register_module()
class SegDataPreProcessor(ImgDataPreprocessor):
    """Normalizes images, and pads images and label maps to the same size on the right and at the bottom.

    Args:
        mean: The value to subtract from each channel.
        std: The value to divide each channel by.
        size: The height and width to pad to; by default, those of the largest image of the batch.
        size_divisor: Height and width are padded to multiples of this number.
        pad_val: The padding value of images, applied after normalization.
        seg_pad_val: The padding value of label maps; use the label that the loss ignores.
        bgr_to_rgb: Whether to swap the first and the third channel.
        rgb_to_bgr: The same as `bgr_to_rgb`.
        batch_augments: Batch augmentations, called one after the other in training as `augment(inputs, data_samples)`.
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
        test = test_cfg or {}
        if (size and size_divisor) or (test.get("size") and test.get("size_divisor")):
            raise ArgumentError("size and size_divisor cannot both be set", key="size_divisor")
        self._train_padding = size or (0, 0), size_divisor or 1
        self._test_padding = test.get("size") or (0, 0), test.get("size_divisor") or 1

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Pads the inputs according to `size` or `size_divisor`. In training, pads label maps to the same size."""
        (least_height, least_width), divisor = self._train_padding if training else self._test_padding
        height, width = batch["inputs"].shape[-2:]
        bottom = max(least_height, -(-height // divisor) * divisor) - height
        right = max(least_width, -(-width // divisor) * divisor) - width
        if bottom or right:
            batch["inputs"] = F.pad(batch["inputs"], (0, right, 0, bottom), value=self.pad_value)
        shape = height + bottom, width + right
        for sample in batch["data_samples"] or ():
            sample.set_metainfo({"pad_shape": shape})
            # Only the loss needs label maps at the input size; predictions are resized to the original image.
            known = sample.get("gt_sem_seg") if training else None
            if known is not None and known.shape != shape:
                missing = (0, shape[1] - known.shape[1], 0, shape[0] - known.shape[0])
                sample.gt_sem_seg = PixelData(data=F.pad(known.data, missing, value=self.seg_pad_val))
