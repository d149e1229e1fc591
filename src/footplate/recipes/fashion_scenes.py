"""The data set of composed scenes."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from footplate.checks import check_count
from footplate.data import Compose, KeptSamples
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.recipes.composition import Scene, SceneStyle, compose
from footplate.recipes.items import CLASSES, Split, load_items
from footplate.registry import DATASETS

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
    """Small scenes composed of real pictures of clothes, shoes and bags, for every task.

    A scene is a function of (split, seed, index) alone and is made when it is asked for. Train scenes show the
    train items only, test scenes the test items only.

    Without a pipeline a sample is a dict of plain arrays under the field's names: `img` ``(H, W, 3)``, uint8, RGB;
    `gt_seg_map` ``(H, W)``, uint8, 0 on the ground and 1 + class on an item; `gt_bboxes` ``(N, 4)``, float32;
    `gt_bboxes_labels` ``(N,)``, int64, 0 to 9; `gt_masks` ``(N, H, W)``, bool; and what describes the picture.

    Args:
        split: "train" or "test".
        length: How many scenes there are; 100,000 to train on and 500 to test on where it is not given.
        seed: Other seeds give other scenes.
        style: Changes to the layout, arguments of `SceneStyle`: `dict(turn=10, stretch=0.15)`.
        pipeline: Transforms that make of the dict what a task's model takes.

    Raises:
        ArgumentError: `length` is no positive number, or split or style make no sense.

    Example:
        >>> scenes = FashionScenes("test")
        >>> len(scenes), scenes[0]["img"].shape
        (500, (64, 64, 3))
    """

    makes_samples: ClassVar[bool] = True  # which costs more than to keep them

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
        self.kept: KeptSamples | None = None

    @property
    def metainfo(self) -> dict[str, Any]:
        """Classes and palette of the segmentation mask, the ground first."""
        return {"classes": ("background", *CLASSES), "palette": [list(color) for color in _PALETTE]}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(self.sample(index)) if self.kept is None else self.kept[index]

    def first_samples(self, first: Compose, indices: Iterable[int]) -> Iterator[Any]:
        """Yields what the first transforms make of some scenes, which a loader's `cache` keeps."""
        return (first(self.sample(index)) for index in indices)

    def scene(self, index: int) -> Scene:
        """Composes the scene of that number.

        Raises:
            IndexError: There is no such scene.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"there are {self._length} scenes, so there is none at {index}")
        return compose(self._items, self._style, np.random.default_rng((*self._key, index)))

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the scene under the names that transforms know."""
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
            raise ArgumentError(f"a scene's style has no '{name}'", key=f"style.{name}", suggestion=near)
    with at_key("style"):
        settings: dict[str, Any] = {name: _as_range(value) for name, value in style.items()}
        return SceneStyle(**settings)


def _as_range(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
