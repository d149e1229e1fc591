"""The multi-view and the packing transform of self-supervised pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from footplate.checks import check_count
from footplate.data import Compose
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS
from footplate.tasks.packing import as_planes, chosen, loaded
from footplate.tasks.selfsup.sample import Part, SelfSupDataSample


@TRANSFORMS.register_module()
class MultiView:
    """Replaces `img` by a list of views, each made by a pipeline of random transforms.

    Args:
        transforms: One pipeline, or one for each entry of `num_views`.
        num_views: The number of views of each pipeline.

    Raises:
        ArgumentError: A number of views is not positive, or `transforms` and `num_views` differ in length.

    Example:
        >>> import numpy as np
        >>> views = MultiView([[dict(type="RandomWarp", flip=0.5)]], num_views=2)
        >>> len(views(dict(img=np.zeros((4, 4), np.uint8)))["img"])
        2
    """

    def __init__(self, transforms: Sequence[Any], num_views: int | Sequence[int] = 2) -> None:
        numbers = [num_views] if isinstance(num_views, int) else list(num_views)
        pipelines = list(transforms) if all(isinstance(each, (list, tuple)) for each in transforms) else [transforms]
        if not numbers or len(pipelines) != len(numbers):
            raise ArgumentError(
                f"one pipeline for each number of views, not {len(pipelines)}", key="num_views", found=num_views
            )
        self.num_views = [check_count("num_views", number) for number in numbers]
        self.pipelines: list[Compose] = []
        for place, pipeline in enumerate(pipelines):
            with at_key(f"transforms[{place}]"):
                self.pipelines.append(Compose(pipeline))

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Replaces `img` by its views; returns None if a pipeline returns None."""
        views = [
            pipeline(dict(results))
            for pipeline, number in zip(self.pipelines, self.num_views, strict=True)
            for _ in range(number)
        ]
        if any(view is None for view in views):
            return None
        results["img"] = [view["img"] for view in views]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_views={self.num_views})"


@TRANSFORMS.register_module()
class PackSelfSupInputs:
    """Packs the results of a pipeline into the inputs of self-supervised models.

    Args:
        key: The key of the image, ``(H, W, C)`` or ``(H, W)``, or of the list of its views.
        algorithm_keys: The keys to store as data, if present.
        pseudo_label_keys: Additional keys to store as data, if present.
        meta_keys: The keys to store as metainfo, if present.
        part: How probes use the image: "train" to fit, "test" to evaluate.

    Raises:
        DataError: There is no image.
        ArgumentError: `part` is unknown.
    """

    fixed: ClassVar[bool] = True

    def __init__(
        self,
        key: str = "img",
        algorithm_keys: Sequence[str] = (),
        pseudo_label_keys: Sequence[str] = (),
        meta_keys: Sequence[str] = ("sample_idx", "img_path", "img_shape", "ori_shape"),
        *,
        part: Part | None = None,
    ) -> None:
        if part not in (None, "train", "test"):
            raise ArgumentError("a picture is for 'train' or for 'test'", key="part", found=part)
        self.key = key
        self.data_keys = (*algorithm_keys, *pseudo_label_keys)
        self.meta_keys = tuple(meta_keys)
        self.part = part

    def __call__(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs`, a list of one tensor ``(C, H, W)`` per view, and `data_samples`."""
        image = loaded(results, self.key)
        views = image if isinstance(image, list) else [image]
        sample = SelfSupDataSample(metainfo=chosen(results, self.meta_keys))
        if self.part is not None:
            sample.set_metainfo({"part": self.part})
        if "gt_label" in results:
            sample.set_gt_label(results["gt_label"])
        sample.set_data(chosen(results, self.data_keys))
        return {"inputs": [as_planes(view) for view in views], "data_samples": sample}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r}, part={self.part!r})"
