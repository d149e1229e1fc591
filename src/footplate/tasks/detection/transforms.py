"""The packing transform of detection pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from footplate.data.structures import InstanceData
from footplate.errors import DataError
from footplate.registry import TRANSFORMS
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.packing import as_planes, chosen, loaded

_META_KEYS = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


@TRANSFORMS.register_module()
class PackDetInputs:
    """Packs the results of a pipeline into the inputs of detection models.

    The results contain `img`, ``(H, W, 3)`` or ``(H, W)``, and, if the ground truth is known, `gt_bboxes` ``(N, 4)``,
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

    def __call__(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs`, a tensor ``(C, H, W)`` of the image's dtype, and `data_samples`, a DetDataSample."""
        image = np.asarray(loaded(results))
        sample = DetDataSample(metainfo={"img_shape": image.shape[:2], **chosen(results, self.meta_keys)})
        if "gt_bboxes" in results:
            instances, ignored = self._instances(results)
            sample.gt_instances = instances[~ignored]
            sample.ignored_instances = instances[ignored]
        return {"inputs": as_planes(image), "data_samples": sample}

    def _instances(self, results: Mapping[str, Any]) -> tuple[InstanceData, npt.NDArray[np.bool_]]:
        boxes = np.asarray(results["gt_bboxes"], dtype=np.float32).reshape(-1, 4)
        labels = np.asarray(results.get("gt_bboxes_labels", ()), dtype=np.int64)
        if len(labels) != len(boxes):
            where = results.get("img_path", "")
            raise DataError(f"there are {len(boxes)} boxes and {len(labels)} labels in the picture '{where}'")
        instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels))
        if self.with_masks and "gt_masks" in results:
            instances.masks = torch.from_numpy(np.asarray(results["gt_masks"], dtype=bool))
        ignored = np.asarray(results.get("gt_ignore_flags", np.zeros(len(boxes))), dtype=bool)
        return instances, ignored

    def __repr__(self) -> str:
        return f"{type(self).__name__}(meta_keys={self.meta_keys}, with_masks={self.with_masks})"
