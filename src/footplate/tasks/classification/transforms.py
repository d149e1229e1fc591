"""The packing transform of classification pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from footplate.registry import TRANSFORMS
from footplate.tasks.classification.sample import ClsDataSample
from footplate.tasks.packing import as_planes, chosen, loaded

_META_KEYS = (
    "sample_idx",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


@TRANSFORMS.register_module(["PackInputs", "PackClsInputs"])
class PackInputs:
    """Packs the results of a pipeline into the inputs of classification models.

    The results contain an image, ``(H, W, C)`` or ``(H, W)``, and, if the ground truth is known, one or several classes
    as `gt_label`, or soft labels as `gt_score`, ``(C,)``.

    Args:
        input_key: The key of the image.
        algorithm_keys: The keys to store as data in addition to the ground truth, if present.
        meta_keys: The keys to store as metainfo, if present.

    Raises:
        DataError: There is no image.
    """

    fixed: ClassVar[bool] = True

    def __init__(
        self,
        input_key: str = "img",
        algorithm_keys: Sequence[str] = (),
        meta_keys: Sequence[str] = _META_KEYS,
    ) -> None:
        self.input_key = input_key
        self.algorithm_keys = tuple(algorithm_keys)
        self.meta_keys = tuple(meta_keys)

    def __call__(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs`, a tensor ``(C, H, W)`` of the image's dtype, and `data_samples`, a ClsDataSample."""
        image = loaded(results, self.input_key)
        sample = ClsDataSample(metainfo=chosen(results, self.meta_keys))
        if "gt_label" in results:
            sample.set_gt_label(results["gt_label"])
        if "gt_score" in results:
            sample.set_gt_score(results["gt_score"])
        sample.set_data(chosen(results, self.algorithm_keys))
        return {"inputs": as_planes(image), "data_samples": sample}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(input_key={self.input_key!r}, meta_keys={self.meta_keys})"
