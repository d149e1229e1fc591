"""The data sample for detection, and the transform and the preprocessor that fill it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from footplate.data import BaseTransform
from footplate.data.structures import BaseDataElement, InstanceData
from footplate.errors import DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS, TRANSFORMS
from footplate.tasks.task_base import data_field, image_to_tensor, loaded_image, select_keys

_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction")


class DetDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_id`, `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_instances: The ground-truth instances: `bboxes` ``(N, 4)``, float32, x1 y1 x2 y2 in pixels of the model
            input, `labels` ``(N,)``, int64, and optionally `masks` ``(N, H, W)``, bool.
        ignored_instances: Instances that are ignored in the evaluation, such as crowds, with the same fields.
        pred_instances: The predicted instances, best first: `bboxes` in pixels of the original image, `labels` and
            `scores` ``(N,)``, and for some models `masks`.

    Example:
        >>> import torch
        >>> from footplate.data.structures import InstanceData
        >>> sample = DetDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_instances = InstanceData(bboxes=torch.zeros(2, 4), labels=torch.tensor([1, 0]))
        >>> sample.img_path, len(sample.gt_instances)
        ('a.png', 2)
    """

    gt_instances = data_field("gt_instances", InstanceData)
    ignored_instances = data_field("ignored_instances", InstanceData)
    pred_instances = data_field("pred_instances", InstanceData)


@TRANSFORMS.register_module()
class PackDetInputs(BaseTransform):
    """Packs the results of a pipeline into the inputs of detection models.

    The results contain `img` of shape ``(H, W, 3)`` or ``(H, W)``. If the ground truth is known, they also contain
    `gt_bboxes` ``(N, 4)``,
    `gt_bboxes_labels` ``(N,)``, `gt_ignore_flags` ``(N,)`` for crowds, and `gt_masks` ``(N, H, W)``.

    Args:
        meta_keys: The keys to store as metainfo, if present.
        with_masks: Whether to pack masks; no built-in model uses them.

    Raises:
        DataError: There is no image, or the numbers of boxes and labels differ.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS, *, with_masks: bool = True) -> None:
        self.meta_keys = tuple(meta_keys)
        self.with_masks = with_masks

    def transform(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs` (a tensor ``(C, H, W)`` of the image's dtype) and `data_samples` (a DetDataSample)."""
        image = np.asarray(loaded_image(results))
        sample = DetDataSample(metainfo={"img_shape": image.shape[:2], **select_keys(results, self.meta_keys)})
        if "gt_bboxes" in results:
            instances, ignored = self._instances(results)
            sample.gt_instances = instances[~ignored]
            sample.ignored_instances = instances[ignored]
        return {"inputs": image_to_tensor(image), "data_samples": sample}

    def _instances(self, results: Mapping[str, Any]) -> tuple[InstanceData, npt.NDArray[np.bool_]]:
        boxes = np.asarray(results["gt_bboxes"], dtype=np.float32).reshape(-1, 4)
        labels = np.asarray(results.get("gt_bboxes_labels", ()), dtype=np.int64)
        if len(labels) != len(boxes):
            where = results.get("img_path", "")
            raise DataError(f"the image '{where}' has {len(boxes)} boxes but {len(labels)} labels")
        instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels))
        if self.with_masks and "gt_masks" in results:
            instances.masks = torch.from_numpy(np.asarray(results["gt_masks"], dtype=bool))
        ignored = np.asarray(results.get("gt_ignore_flags", np.zeros(len(boxes))), dtype=bool)
        return instances, ignored


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Normalizes images and pads them to the same size on the right and at the bottom, so that boxes stay valid.

    Sets `batch_input_shape` (the padded size of the batch) and `pad_shape` in each sample.

    Args:
        mean: The value to subtract from each channel.
        std: The value to divide each channel by.
        pad_size_divisor: Height and width are padded to multiples of this number.
        pad_value: The padding value of images, applied after normalization.
        pad_mask: Whether to pad the ground-truth masks to the size of the images.
        mask_pad_value: The padding value of masks.
        settings: Additional arguments for `ImgDataPreprocessor`.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        *,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(mean, std, pad_size_divisor, pad_value, **settings)
        self.pad_mask = pad_mask
        self.mask_pad_value = mask_pad_value

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Sets the size of the batch in each sample, and pads masks to it."""
        shape = tuple(batch["inputs"].shape[-2:])
        for sample in batch["data_samples"] or ():
            sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
            instances = sample.get("gt_instances") if self.pad_mask else None
            if instances is not None and "masks" in instances:
                bottom, right = shape[0] - instances.masks.shape[-2], shape[1] - instances.masks.shape[-1]
                instances.masks = F.pad(instances.masks, (0, right, 0, bottom), value=self.mask_pad_value)
