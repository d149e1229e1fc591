"""Defines the data sample, the transforms and the data preprocessor for self-supervised learning."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor
from typing_extensions import Self

from footplate.checks import check_choice, check_count
from footplate.data import BaseTransform, Compose
from footplate.data.data_element import BaseDataElement
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import MODELS, TRANSFORMS
from footplate_vision.task_base import META_KEYS, PackSamples, to_labels

Part = Literal["train", "test"]


class SelfSupDataSample(BaseDataElement):
    """The features of one image, and its class if it has one. Metainfo contains `img_path`, `part` etc.

    Attributes:
        features: The features of the image, ``(D,)``, float.
        gt_label: The true class, ``(1,)``, int64, used only by probes.
        part: The split for probes: "train" for fitting, "test" for evaluation.

    Example:
        >>> sample = SelfSupDataSample(metainfo=dict(part="test")).set_gt_label(3)
        >>> sample.part, sample.gt_label
        ('test', tensor([3]))
    """

    def set_gt_label(self, value: Any) -> Self:
        """Sets the true class. Raises an ArgumentError if `value` contains anything but integers."""
        self.gt_label = to_labels(value)
        return self


@TRANSFORMS.register_module()
class MultiView(BaseTransform):
    """Replaces `img` with a list of views, each created by a pipeline of random transforms.

    Args:
        transforms: The pipeline, or as in MMSelfSup, a list with one pipeline. For several pipelines, use the
            `MultiView` of MMSelfSup or MMPretrain.
        num_views: The number of views.

    Raises:
        ArgumentError: `num_views` is not positive, or there are several pipelines.

    Example:
        >>> import numpy as np
        >>> views = MultiView([[dict(type="RandomWarp", flip=0.5)]], num_views=2)
        >>> len(views(dict(img=np.zeros((4, 4), np.uint8)))["img"])
        2
    """

    def __init__(self, transforms: Sequence[Any], num_views: int = 2) -> None:
        self.num_views = check_count("num_views", num_views)
        is_nested = (
            not isinstance(transforms, dict) and len(transforms) == 1 and isinstance(transforms[0], (list, tuple))
        )
        with at_key("transforms[0]" if is_nested else "transforms"):
            self.pipeline = Compose(transforms[0] if is_nested else transforms)

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Replaces `img` with its views. Returns None if the pipeline returns None."""
        views = [self.pipeline(dict(results)) for _ in range(self.num_views)]
        if None in views:
            return None
        results["img"] = [view["img"] for view in views]
        return results


@TRANSFORMS.register_module()
class PackSelfSupInputs(PackSamples):
    """Packs the results of a pipeline into the inputs of self-supervised models.

    Args:
        meta_keys: The keys to store as metainfo, if present.
        part: The split for probes: "train" for fitting, "test" for evaluation.

    Raises:
        DataError: There is no image.
        ArgumentError: `part` is unknown.
    """

    sample_type = SelfSupDataSample

    def __init__(self, meta_keys: Sequence[str] = META_KEYS, *, part: Part | None = None) -> None:
        if part is not None:
            check_choice("part", part, ("train", "test"))
        super().__init__(meta_keys)
        self.part = part

    def transform(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs`, a list with one tensor of shape ``(C, H, W)`` per view, and `data_samples`."""
        packed = super().transform(results)
        if not isinstance(packed["inputs"], list):
            packed["inputs"] = [packed["inputs"]]
        return packed

    def annotate(self, sample: SelfSupDataSample, results: Mapping[str, Any]) -> None:
        """Adds the split (`part`) and the label to a sample."""
        if self.part is not None:
            sample.set_metainfo({"part": self.part})
        if "gt_label" in results:
            sample.set_gt_label(results["gt_label"])


@MODELS.register_module()
class SelfSupDataPreprocessor(ImgDataPreprocessor):
    """Normalizes and stacks the images of each view; see `ImgDataPreprocessor` for the arguments."""

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """Returns the batch with `inputs` as a list of float tensors of shape ``(N, C, H, W)``, one per view.

        Raises:
            DataError: `inputs` is missing or contains no images.
        """
        views = data.get("inputs") if isinstance(data, Mapping) else data
        if not isinstance(data, Mapping) or not isinstance(views, (list, tuple)) or not views:
            raise DataError("a batch must be a dict with a non-empty list of views as 'inputs'", found=type(views))
        if isinstance(views[0], Tensor) and views[0].dim() == 3:
            views = [views]  # a list of single images is one view
        stacked = [super(SelfSupDataPreprocessor, self).forward({"inputs": view})["inputs"] for view in views]
        return {"inputs": stacked, "data_samples": self.cast_data(data.get("data_samples"))}
