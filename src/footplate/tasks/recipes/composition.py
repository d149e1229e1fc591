"""Composes images of items into scenes."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.errors import ArgumentError
from footplate.tasks.recipes.items import ITEM_SIZE, Items

_Pixels = NDArray[np.float32]

_CANDIDATE_POSITIONS = 6
# A normal distribution in 256 levels. A lookup of random bytes takes a tenth of the time of normal random numbers.
_NORMAL_LEVELS = np.array([NormalDist().inv_cdf((level + 0.5) / 256) for level in range(256)], dtype=np.float32)


class Scene(NamedTuple):
    """A composed image with its annotations.

    Attributes:
        image: ``(H, W, 3)``, uint8, RGB.
        mask: ``(H, W)``, uint8, 0 on the background and 1 + class on an item.
        boxes: ``(N, 4)``, float32, pixels, ``x1 y1 x2 y2`` around the visible part of each item (x2, y2 exclusive).
        instance_masks: ``(N, H, W)``, bool, the visible part of each item.
        classes: ``(N,)``, int64, 0 to 9.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    instance_masks: NDArray[np.bool_]
    classes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SceneStyle:
    """The layout of scenes.

    Args:
        size: The height and width of a scene in pixels.
        num_items: The minimum and maximum number of items in a scene.
        scale: The minimum and maximum scale of an item, relative to 28 x 28 pixels.
        turn: The maximum rotation of an item in degrees, in both directions.
        stretch: The maximum relative change of an item's width and of its height.
        noise: The standard deviation of the background noise in gray levels.

    Raises:
        ArgumentError: A range is empty, or an item might be larger than the scene.
    """

    size: int = 64
    num_items: tuple[int, int] = (2, 4)
    scale: tuple[float, float] = (0.9, 1.5)
    turn: float = 0.0
    stretch: float = 0.0
    noise: float = 12.0

    def __post_init__(self) -> None:
        for name in ("num_items", "scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ArgumentError(
                    f"{name} must be a pair of positive numbers in ascending order", key=name, found=(low, high)
                )
        if self.scale[1] * ITEM_SIZE * (1 + self.stretch) > self.size:
            raise ArgumentError(
                "an item of the maximum scale does not fit into the scene", key="scale", found=self.scale
            )


def compose(items: Items, style: SceneStyle, rng: np.random.Generator) -> Scene:
    """Composes a scene of items on a noisy background, later items over earlier ones.

    All random choices use ``rng``, so that equal generators give equal scenes.
    """
    canvas = _background(style, rng)
    owner = np.full((style.size, style.size), -1, dtype=np.int8)
    count = int(rng.integers(style.num_items[0], style.num_items[1] + 1))
    chosen = rng.integers(len(items.classes), size=count)
    for position, index in enumerate(chosen):
        grey, outline = _transform_item(items, int(index), style, rng)
        top, left = _find_position(owner, outline.shape, rng)
        window = np.s_[top : top + outline.shape[0], left : left + outline.shape[1]]
        _paint(canvas[window], grey, outline, rng)
        owner[window][outline >= 128] = position
    return _annotated_scene(canvas, owner, items.classes[chosen])


def _background(style: SceneStyle, rng: np.random.Generator) -> _Pixels:
    """Returns a background, ``(H, W, 3)``, float32, with a color gradient and noise."""
    shape = (style.size, style.size, 3)
    colour = rng.uniform(40, 215, size=3).astype(np.float32)
    slope = rng.uniform(-30, 30, size=(2, 3)).astype(np.float32)
    ramp = np.linspace(-1, 1, style.size, dtype=np.float32)[:, None]
    noise = _NORMAL_LEVELS[np.frombuffer(rng.bytes(math.prod(shape)), dtype=np.uint8)].reshape(shape)
    background: _Pixels = noise * np.float32(style.noise)
    background += (colour + ramp * slope[0])[:, None]
    background += ramp * slope[1]
    return background


def _transform_item(
    items: Items, index: int, style: SceneStyle, rng: np.random.Generator
) -> tuple[_Pixels, NDArray[np.uint8]]:
    """Returns the gray levels and the outline of a scaled, rotated and flipped item, each ``(h, w)``."""
    scale = rng.uniform(*style.scale)
    stretch = 1 + style.stretch * rng.uniform(-1, 1, size=2)
    width, height = (round(float(each)) for each in ITEM_SIZE * scale * stretch)
    angle, mirror = math.radians(style.turn * rng.uniform(-1, 1)), 1 if rng.random() < 0.5 else -1
    # The affine transform maps positions of the result to positions of the item, around the centers of both.
    across, down = ITEM_SIZE / width, ITEM_SIZE / height
    a, b = mirror * across * math.cos(angle), mirror * down * math.sin(angle)
    d, e = -across * math.sin(angle), down * math.cos(angle)
    centre = ITEM_SIZE / 2
    inverse = (a, b, centre - (a * width + b * height) / 2, d, e, centre - (d * width + e * height) / 2)
    grey, outline = (
        np.asarray(
            Image.fromarray(pixels[index]).transform(
                (width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR
            )
        )
        for pixels in (items.grey, items.outline)
    )
    return grey.astype(np.float32), outline


def _find_position(owner: NDArray[np.int8], shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Returns the top left corner, among a few random ones, that covers the fewest pixels of other items."""
    limits = np.subtract(owner.shape, shape) + 1
    corners = (rng.random((_CANDIDATE_POSITIONS, 2)) * limits).astype(np.int64).tolist()
    occupied = owner >= 0
    hidden = [np.count_nonzero(occupied[y : y + shape[0], x : x + shape[1]]) for y, x in corners]
    top, left = corners[hidden.index(min(hidden))]
    return top, left


def _paint(window: _Pixels, grey: _Pixels, outline: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Blends a tinted item into ``window``, ``(h, w, 3)``, in place."""
    tint = rng.uniform(0.35, 1.0, size=3).astype(np.float32)
    alpha = (outline.astype(np.float32) / 255)[..., None]
    window += alpha * (grey[..., None] * tint - window)


def _annotated_scene(canvas: _Pixels, owner: NDArray[np.int8], classes: NDArray[np.int64]) -> Scene:
    """Derives masks and boxes from the item index of each pixel; fully hidden items are dropped."""
    instance_masks = owner == np.arange(len(classes), dtype=np.int8)[:, None, None]
    visible = instance_masks.any(axis=(1, 2))
    mask = np.append(classes + 1, 0).astype(np.uint8)[owner]
    if not visible.all():
        instance_masks, classes = instance_masks[visible], classes[visible]
    boxes = np.array([_bounds(one) for one in instance_masks], dtype=np.float32).reshape(-1, 4)
    image = np.rint(canvas).clip(0, 255).astype(np.uint8)
    return Scene(image, mask, boxes, instance_masks, classes)


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
