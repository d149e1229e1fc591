"""The packing transform of segmentation pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from footplate.data.structures import PixelData
from footplate.errors import DataError
from footplate.registry import TRANSFORMS
from footplate.tasks.packing import as_planes, chosen, loaded
from footplate.tasks.segmentation.sample import SegDataSample

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
