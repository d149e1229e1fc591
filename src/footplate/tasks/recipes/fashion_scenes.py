"""The dataset of composed scenes."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from footplate.checks import check_count
from footplate.data import Compose, SampleCache
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import DATASETS, find_wrong_type
from footplate.tasks.recipes.composition import Scene, SceneStyle, compose
from footplate.tasks.recipes.items import CLASSES, Split, load_items

_TEST_SCENES = 500
_TRAIN_SCENES = 100_000
_SPLIT_NUMBERS: dict[str, int] = {"train": 0, "test": 1}
_PALETTE = (
    (48, 48, 48),
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (67, 99, 216),
    (245, 130, 49),
    (66, 212, 244),
    (240, 50, 230),
    (191, 239, 69),
    (250, 190, 212),
    (154, 99, 36),
)


@DATASETS.register_module()
class FashionScenes:
    """Small scenes composed of images of clothes, shoes and bags, for segmentation and detection.

    A scene depends only on split, seed and index, and is composed on access. Training scenes contain only training
    items, test scenes only test items.

    Without a pipeline, a sample is a dict of arrays: `img` ``(H, W, 3)``, uint8, RGB; `gt_seg_map` ``(H, W)``, uint8,
    0 on the background and 1 + class on an item; `gt_bboxes` ``(N, 4)``, float32, xyxy in pixels; `gt_bboxes_labels`
    ``(N,)``, int64, 0 to 9; `gt_masks` ``(N, H, W)``, bool; and metadata of the image.

    Args:
        split: "train" or "test".
        length: The number of scenes; by default 100,000 for training and 500 for testing.
        seed: The random seed of the scenes.
        style: Arguments of `SceneStyle`, such as `dict(turn=10, stretch=0.15)`.
        pipeline: Transforms that convert the dict to the input of a model.

    Raises:
        ArgumentError: `length`, `split` or `style` is invalid.

    Example:
        >>> scenes = FashionScenes("test")
        >>> len(scenes), scenes[0]["img"].shape
        (500, (64, 64, 3))
    """

    makes_samples: ClassVar[bool] = True  # composing a scene is slower than caching it

    def __init__(
        self,
        split: Split = "train",
        *,
        length: int | None = None,
        seed: int = 0,
        style: Mapping[str, Any] | None = None,
        pipeline: Sequence[Any] = (),
    ) -> None:
        self._items = load_items(split)
        self._length = length if length is not None else _TEST_SCENES if split == "test" else _TRAIN_SCENES
        check_count("length", self._length)
        self._key = (seed, _SPLIT_NUMBERS[split])
        self._name = f"fashion-{split}-{seed}"
        self._style = _build_style(style or {})
        with at_key("pipeline"):
            self.pipeline = Compose(pipeline)
        self.sample_cache: SampleCache | None = None

    @property
    def metainfo(self) -> dict[str, Any]:
        """The classes and the palette of the segmentation map, the background first."""
        return {"classes": ("background", *CLASSES), "palette": [list(color) for color in _PALETTE]}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(self.sample(index)) if self.sample_cache is None else self.sample_cache[index]

    def leading_samples(self, leading: Compose, indices: Iterable[int]) -> Iterator[Any]:
        """Yields the results of the leading transforms for some scenes, which a data loader caches."""
        return (leading(self.sample(index)) for index in indices)

    def scene(self, index: int) -> Scene:
        """Composes the scene with an index.

        Raises:
            IndexError: The index is out of range.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} scenes")
        return compose(self._items, self._style, np.random.default_rng((*self._key, index)))

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the sample of a scene, before the pipeline."""
        scene = self.scene(index)
        shape = scene.mask.shape
        return {
            "img": scene.image,
            "gt_seg_map": scene.mask,
            "gt_bboxes": scene.boxes,
            "gt_bboxes_labels": scene.classes,
            "gt_masks": scene.instance_masks,
            "img_path": f"{self._name}/{index:05d}.png",
            "img_shape": shape,
            "ori_shape": shape,
            "sample_idx": index,
        }


def _build_style(style: Mapping[str, Any]) -> SceneStyle:
    known = [field.name for field in dataclasses.fields(SceneStyle)]
    for name in style:
        if name not in known:
            near = nearest(name, known)
            raise ArgumentError(f"the scene style has no argument '{name}'", key=f"style.{name}", suggestion=near)
    with at_key("style"):
        settings: dict[str, Any] = {name: _as_range(value) for name, value in style.items()}
        wrong = find_wrong_type(SceneStyle, settings)
        if wrong is not None:
            raise ArgumentError(f"{wrong[0]} must be {wrong[1]}", key=wrong[0], found=settings[wrong[0]])
        return SceneStyle(**settings)


def _as_range(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
