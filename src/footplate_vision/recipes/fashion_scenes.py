"""Composes scenes from images of clothes, shoes and bags, and defines their datasets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from footplate.error_context import at_key, with_defaults
from footplate.registry import DATASETS
from footplate_vision.recipes.fashion_items import CLASSES, ITEM_SIZE, ComposedDataset, Items, Split, load_items

_Pixels = NDArray[np.float32]
_CANDIDATE_POSITIONS = 6
# A normal distribution in 256 levels. Looking up random bytes takes a tenth of the time of sampling a normal
# distribution.
_NORMAL_LEVELS = np.array([NormalDist().inv_cdf((level + 0.5) / 256) for level in range(256)], dtype=np.float32)
_LENGTHS = {"train": 100_000, "test": 500}
_PALETTE = (
    "#303030",
    "#e6194b",
    "#3cb44b",
    "#ffe119",
    "#4363d8",
    "#f58231",
    "#42d4f4",
    "#f032e6",
    "#bfef45",
    "#fabed4",
    "#9a6324",
)


@dataclass(frozen=True, kw_only=True)
class SceneStyle:
    """Settings for composing scenes: their size and noise, and the number and transformation of their items.

    Args:
        size: The height and width of a scene in pixels.
        num_items: The minimum and maximum number of items in a scene.
        scale: The minimum and maximum scale of an item, relative to 28 x 28 pixels.
        turn: The maximum rotation of an item in either direction, in degrees.
        stretch: The maximum relative change in an item's width and height.
        noise: The standard deviation of the background noise in gray levels.
    """

    size: int = 64
    num_items: tuple[int, int] = (2, 4)
    scale: tuple[float, float] = (0.9, 1.5)
    turn: float = 0.0
    stretch: float = 0.0
    noise: float = 12.0


def compose(items: Items, style: SceneStyle, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Composes a scene of items on a noisy background. Later items cover earlier ones.

    Returns the arrays of a sample; see `FashionScenes`.

    All random choices use ``rng``, so generators in the same state produce the same scene.
    """
    canvas = draw_background(style, rng)
    owner = np.full((style.size, style.size), -1, dtype=np.int8)
    count = int(rng.integers(style.num_items[0], style.num_items[1] + 1))
    chosen = rng.integers(len(items.classes), size=count)
    for position, index in enumerate(chosen):
        grey, outline = transform_item(items, int(index), style, rng)
        top, left = find_position(owner, outline.shape, rng)
        window = np.s_[..., top : top + outline.shape[0], left : left + outline.shape[1]]
        tint = rng.uniform(0.35, 1.0, size=(3, 1, 1)).astype(np.float32)
        covered = canvas[window]
        covered += outline.astype(np.float32) / 255 * (grey * tint - covered)
        owner[window][outline >= 128] = position
    return annotate_scene(canvas, owner, items.classes[chosen])


def draw_background(style: SceneStyle, rng: np.random.Generator) -> _Pixels:
    """Returns a background with a color gradient and noise, as a float32 array of shape ``(3, H, W)``."""
    color = rng.uniform(40, 215, size=(3, 1)).astype(np.float32)
    slope = rng.uniform(-30, 30, size=(2, 3, 1)).astype(np.float32)
    ramp = np.linspace(-1, 1, style.size, dtype=np.float32)
    levels = np.frombuffer(rng.bytes(style.size**2 * 3), dtype=np.uint8).reshape(-1, 3).T.copy()
    background = (_NORMAL_LEVELS * np.float32(style.noise))[levels].reshape(3, style.size, style.size)
    background += (color + ramp * slope[0])[..., None]
    background += (ramp * slope[1])[:, None]
    return background  # type: ignore[no-any-return]


def transform_item(items: Items, index: int, style: SceneStyle, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the gray levels and outline of a scaled, rotated and flipped item as an array of shape ``(2, h, w)``."""
    scale = rng.uniform(*style.scale)
    stretch = 1 + style.stretch * rng.uniform(-1, 1, size=2)
    width, height = (round(float(each)) for each in ITEM_SIZE * scale * stretch)
    angle, mirror = math.radians(style.turn * rng.uniform(-1, 1)), 1 if rng.random() < 0.5 else -1
    # The affine transform maps positions of the result to positions of the item, around the centers of both.
    across, down = ITEM_SIZE / width, ITEM_SIZE / height
    a, b = mirror * across * math.cos(angle), mirror * down * math.sin(angle)
    d, e = -across * math.sin(angle), down * math.cos(angle)
    center = ITEM_SIZE / 2
    inverse = (a, b, center - (a * width + b * height) / 2, d, e, center - (d * width + e * height) / 2)
    size, method = (width, height), Image.Transform.AFFINE
    image = items.images[index].transform(size, method, inverse, Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)  # type: ignore[no-any-return]


def find_position(owner: NDArray[np.int8], shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Returns the top-left corner for a new item.

    Tries a few random corners and chooses the one at which the new item hides the fewest pixels of earlier items.
    """
    limits = np.subtract(owner.shape, shape) + 1
    corners = (rng.random((_CANDIDATE_POSITIONS, 2)) * limits).astype(np.int64).tolist()
    occupied = owner >= 0
    hidden = [np.count_nonzero(occupied[y : y + shape[0], x : x + shape[1]]) for y, x in corners]
    top, left = corners[hidden.index(min(hidden))]
    return top, left


def annotate_scene(canvas: _Pixels, owner: NDArray[np.int8], classes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a sample, given a canvas of shape ``(3, H, W)`` and the index of the item at each pixel.

    The index of background pixels is -1. Boxes are around the visible part of each item. Items that are fully hidden
    are left out.
    """
    instance_masks = owner == np.arange(len(classes), dtype=np.int8)[:, None, None]
    visible = instance_masks.any(axis=(1, 2))
    mask = np.append(classes + 1, 0).astype(np.uint8)[owner]
    instance_masks, classes = instance_masks[visible], classes[visible]
    covered = np.stack([instance_masks.any(axis=1), instance_masks.any(axis=2)], axis=1)  # columns and rows
    first, last = covered.argmax(axis=2), len(owner) - covered[..., ::-1].argmax(axis=2)
    boxes = np.hstack([first, last]).astype(np.float32)
    image = np.rint(canvas).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return {
        "img": np.ascontiguousarray(image),
        "gt_seg_map": mask,
        "gt_bboxes": boxes,
        "gt_bboxes_labels": classes,
        "gt_masks": instance_masks,
    }


@DATASETS.register_module()
class FashionScenes(ComposedDataset):
    """Small scenes composed of images of clothes, shoes and bags, for segmentation and detection.

    A scene depends only on the split, seed, style and index, and is composed on access. Training scenes contain only
    training items, and test scenes only test items.

    Without a pipeline, a sample is a dict with the image's metadata and these arrays: `img` (uint8, RGB, of shape
    ``(H, W, 3)``), `gt_seg_map` (uint8, of shape ``(H, W)``, 0 for the background and 1 + class for an item),
    `gt_bboxes` (float32, of shape ``(N, 4)``, x1 y1 x2 y2 in pixels), `gt_bboxes_labels` (int64, of shape ``(N,)``, 0
    to 9) and `gt_masks` (bool, of shape ``(N, H, W)``).

    Args:
        split: "train" or "test".
        length: The number of scenes; by default 100,000 for training and 500 for testing.
        seed: The random seed of the scenes.
        style: Arguments for `SceneStyle`, such as `dict(turn=10, stretch=0.15)`.
        pipeline: Transforms that convert the dict to the input of a model.

    Raises:
        ArgumentError: `length` is not positive, or `split` is unknown.
        BuildError: `style` has an unknown key.

    Example:
        >>> scenes = FashionScenes("test")
        >>> len(scenes), scenes[0]["img"].shape
        (500, (64, 64, 3))
    """

    # How to load a scene that was saved as a file, and its default height and width.
    image_loader = {"type": "LoadImageFromFile", "channel_order": "rgb"}
    image_size = (SceneStyle.size, SceneStyle.size)

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
        super().__init__(_LENGTHS[split] if length is None else length, pipeline)
        self._key = (seed, int(split == "test"))
        self._name = f"fashion-{split}-{seed}"
        with at_key("style"):
            self._style: SceneStyle = DATASETS.build(with_defaults(style, type=SceneStyle))

    @property
    def metainfo(self) -> dict[str, Any]:
        """A dict with the `classes` and the `palette` of the segmentation map. The background comes first."""
        return {"classes": ("background", *CLASSES), "palette": [list(ImageColor.getrgb(color)) for color in _PALETTE]}

    def sample(self, index: int) -> dict[str, Any]:
        """Composes the scene at an index, and returns its sample without applying the pipeline."""
        arrays = compose(self._items, self._style, np.random.default_rng((*self._key, index)))
        shape = arrays["gt_seg_map"].shape
        return {
            **arrays,
            "img_path": f"{self._name}/{index:05d}.png",
            "img_shape": shape,
            "ori_shape": shape,
            "sample_idx": index,
        }


@DATASETS.register_module()
class FashionInstances(FashionScenes):
    """The scenes of `FashionScenes` for detection: the background is not a class.

    Takes the arguments of `FashionScenes`. Samples also contain `img_id`.

    Example:
        >>> FashionInstances("test").metainfo["classes"][:2]
        ('T-shirt/top', 'trouser')
    """

    @property
    def metainfo(self) -> dict[str, Any]:
        """A dict with the `classes` and the `palette`, without the background."""
        return {"classes": CLASSES, "palette": super().metainfo["palette"][1:]}

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the sample of a scene, including `img_id`, without applying the pipeline."""
        return {**super().sample(index), "img_id": index}
