"""Loads the annotations of images: boxes, labels, masks and label maps."""

import io
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.data.annotations import read_file
from footplate.data.masks import decode_mask
from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.loading import why_unreadable
from footplate.errors import DataError
from footplate.registry import TRANSFORMS

_IGNORED = 255  # the conventional label of ignored pixels


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Loads the annotations of a record: its `instances`, and the label map at `seg_map_path`.

    With None, an annotation is loaded if the record has it. With True, a missing annotation is an error. With False,
    the annotation is not loaded.

    Args:
        with_bbox: Whether to load boxes: `gt_bboxes` ``(N, 4)``, float32, and `gt_ignore_flags` ``(N,)``, bool.
        with_label: Whether to load the classes of the boxes: `gt_bboxes_labels` ``(N,)``, int64.
        with_mask: Whether to load instance masks: `gt_masks` ``(N, H, W)``, bool.
        with_seg: Whether to load the label map: `gt_seg_map` ``(H, W)``, uint8. The `label_map` of a record maps
            labels to other labels.
        reduce_zero_label: Whether to replace label 0 by 255, which is ignored, and subtract 1 from the other labels.
            By default, the record determines it.
        poly2mask: Accepted for compatibility and ignored; masks are always arrays.
        box_type: Accepted for compatibility and ignored; boxes are x1 y1 x2 y2.
        imdecode_backend: Accepted for compatibility and ignored; Pillow decodes the files.
        backend_args: Accepted for compatibility and ignored; the URL of a file determines the storage.

    Raises:
        DataError: Something asked for is not there or cannot be read, or a label map has another size than its picture.
    """

    keepable: ClassVar[bool] = True

    def __init__(
        self,
        with_bbox: bool | None = None,
        with_label: bool | None = None,
        with_mask: bool = False,
        with_seg: bool | None = None,
        *,
        reduce_zero_label: bool | None = None,
        poly2mask: bool = True,
        box_type: str = "hbox",
        imdecode_backend: str | None = None,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        self.with_bbox = with_bbox
        self.with_label = with_label
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.reduce_zero_label = reduce_zero_label

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the annotations to the sample."""
        instances = results.get("instances")
        if _wanted(self.with_bbox, results, "instances"):
            boxes = np.array([each["bbox"] for each in instances or ()], dtype=np.float32)
            results["gt_bboxes"] = boxes.reshape(-1, 4)
            results["gt_ignore_flags"] = np.array([each.get("ignore_flag", 0) for each in instances or ()], dtype=bool)
        if _wanted(self.with_label, results, "instances"):
            labels = [each["bbox_label"] for each in instances or ()]
            results["gt_bboxes_labels"] = np.array(labels, dtype=np.int64)
        if self.with_mask:
            results["gt_masks"] = _masks(results)
        if _wanted(self.with_seg, results, "seg_map_path"):
            results["gt_seg_map"] = self._label_map(results)
        return results

    def _label_map(self, results: dict[str, Any]) -> NDArray[np.uint8]:
        path = results["seg_map_path"]
        content = read_file(path)
        try:
            with Image.open(io.BytesIO(content)) as opened:
                labels = np.array(opened)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"the label map '{path}' cannot be read: {why_unreadable(error)}") from error
        if labels.ndim != 2:
            raise DataError(f"the label map '{path}' is a picture of {labels.shape[-1]} channels, not of labels")
        shape = results.get("ori_shape")  # the original size of the image, which may be resized already
        if shape is not None and labels.shape != tuple(shape)[:2]:
            raise DataError(
                f"the label map '{path}' has another size than its picture '{results.get('img_path', '')}'",
                found=f"{labels.shape[1]}x{labels.shape[0]}, and the picture is {shape[1]}x{shape[0]}",
                notes=["Give each picture a label map of its own size."],
            )
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= _IGNORED:
            raise DataError(f"the label map '{path}' holds labels outside of 0 to {_IGNORED}", found=int(labels.max()))
        reduce = results.get("reduce_zero_label") if self.reduce_zero_label is None else self.reduce_zero_label
        found = _reduced(labels.astype(np.uint8)) if reduce else labels.astype(np.uint8)
        changes = np.arange(_IGNORED + 1, dtype=np.uint8)
        for before, after in (results.get("label_map") or {}).items():  # class indices of the dataset
            changes[before] = after
        return changes[found]


def _wanted(asked: bool | None, results: dict[str, Any], key: str) -> bool:
    there = results.get(key) is not None
    if asked and not there:
        where = results.get("img_path", "")
        raise DataError(f"the picture '{where}' has no annotations: there is no '{key}'", found=sorted(results))
    return there if asked is None else asked


def _masks(results: dict[str, Any]) -> NDArray[np.bool_]:
    """Returns the masks of all instances, ``(N, H, W)``, in the original size of the image."""
    shape = tuple(results["ori_shape"]) if "ori_shape" in results else (results["height"], results["width"])
    found = np.zeros((len(results.get("instances") or ()), *shape), dtype=bool)
    for place, instance in enumerate(results.get("instances") or ()):
        if instance.get("mask") is None:
            raise DataError(f"an instance of the picture '{results.get('img_path', '')}' has no mask")
        found[place] = decode_mask(instance["mask"], shape)
    return found


def _reduced(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replaces label 0 by 255 and subtracts 1 from the other labels except 255."""
    found: NDArray[np.uint8] = np.where((labels == 0) | (labels == _IGNORED), _IGNORED, labels - np.uint8(1))
    return found.astype(np.uint8)
