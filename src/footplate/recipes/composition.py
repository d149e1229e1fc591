"""Composing items into scenes: plain numpy in, plain numpy out, the same for every task."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.errors import ArgumentError
from footplate.recipes.items import ITEM_SIZE, Items

_PLACES_TRIED = 6


class Scene(NamedTuple):
    """One composed picture with everything that is known about it.

    Attributes:
        image: ``(H, W, 3)``, uint8, RGB.
        mask: ``(H, W)``, uint8, 0 on the ground and 1 + class on an item.
        boxes: ``(N, 4)``, float32, pixels, ``x1 y1 x2 y2`` around what is seen of each item (x2, y2 exclusive).
        instance_masks: ``(N, H, W)``, bool, what is seen of each item.
        classes: ``(N,)``, int64, 0 to 9.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    instance_masks: NDArray[np.bool_]
    classes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SceneStyle:
    """How scenes are laid out.

    Args:
        size: Height and width of a scene in pixels.
        num_items: Fewest and most items of a scene.
        scale: Smallest and largest enlargement of an item of 28 x 28 pixels.
        turn: An item is turned by at most this many degrees to either side.
        stretch: An item's width and height are each changed by at most this share.
        noise: Standard deviation of the ground's grain, in grey levels.

    Raises:
        ArgumentError: A range is empty or an item might not fit into the scene.
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
                raise ArgumentError(f"{name} must be a range above 0", key=name, found=(low, high))
        if self.scale[1] * ITEM_SIZE * (1 + self.stretch) > self.size:
            raise ArgumentError("an item might not fit into the scene", key="scale", found=self.scale)


def compose(items: Items, style: SceneStyle, rng: np.random.Generator) -> Scene:
    """Lay items on a noisy ground, later ones over earlier ones.

    Every random choice is drawn from ``rng``, so that equal generators give equal scenes.
    """
    canvas = _ground(style, rng)
    owner = np.full((style.size, style.size), -1, dtype=np.int64)
    count = int(rng.integers(style.num_items[0], style.num_items[1] + 1))
    chosen = rng.integers(len(items.classes), size=count)
    for position, index in enumerate(chosen):
        grey, outline = _shape_item(items, int(index), style, rng)
        top, left = _find_place(owner, outline.shape, rng)
        window = np.s_[top : top + outline.shape[0], left : left + outline.shape[1]]
        _paint(canvas[window], grey, outline, rng)
        owner[window][outline >= 128] = position
    return _describe(canvas, owner, items.classes[chosen])


def _ground(style: SceneStyle, rng: np.random.Generator) -> NDArray[np.float32]:
    """``(H, W, 3)``, float32: one colour, sloping, with grain."""
    colour = rng.uniform(40, 215, size=3)
    slope = rng.uniform(-30, 30, size=(2, 3))
    ramp = np.linspace(-1, 1, style.size)
    smooth = colour + ramp[:, None, None] * slope[0] + ramp[None, :, None] * slope[1]
    grain = rng.standard_normal((style.size, style.size, 3), dtype=np.float32) * np.float32(style.noise)
    ground: NDArray[np.float32] = smooth.astype(np.float32) + grain
    return ground


def _shape_item(
    items: Items, index: int, style: SceneStyle, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scaled, turned and flipped: grey levels and outline, each ``(h, w)``."""
    scale = rng.uniform(*style.scale)
    width, height = np.rint(ITEM_SIZE * scale * (1 + style.stretch * rng.uniform(-1, 1, size=2))).astype(int)
    angle, flipped = style.turn * rng.uniform(-1, 1), rng.random() < 0.5
    shaped = []
    for pixels in (items.grey[index], items.outline[index]):
        picture = Image.fromarray(pixels[:, ::-1] if flipped else pixels)
        if angle:
            picture = picture.rotate(angle, Image.Resampling.BILINEAR)
        shaped.append(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)))
    return shaped[0].astype(np.float32), shaped[1]


def _find_place(owner: NDArray[np.int64], shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """The top left corner, among a few random ones, that hides least of the items already there."""
    room = np.subtract(owner.shape, shape) + 1
    corners = rng.integers(room, size=(_PLACES_TRIED, 2))
    taken = owner >= 0
    hidden = [int(taken[y : y + shape[0], x : x + shape[1]].sum()) for y, x in corners]
    top, left = corners[int(np.argmin(hidden))]
    return int(top), int(left)


def _paint(
    window: NDArray[np.float32],
    grey: NDArray[np.float32],
    outline: NDArray[np.uint8],
    rng: np.random.Generator,
) -> None:
    """Lay a tinted item over ``window`` (h, w, 3), in place."""
    tint = rng.uniform(0.35, 1.0, size=3).astype(np.float32)
    cover = (outline.astype(np.float32) / 255)[..., None]
    window += cover * (grey[..., None] * tint - window)


def _describe(canvas: NDArray[np.float32], owner: NDArray[np.int64], classes: NDArray[np.int64]) -> Scene:
    """Derive masks and boxes from who owns which pixel; items wholly hidden are left out."""
    instance_masks = owner == np.arange(len(classes))[:, None, None]
    seen = instance_masks.any(axis=(1, 2))
    instance_masks, kept = instance_masks[seen], classes[seen]
    mask = np.append(classes + 1, 0)[owner].astype(np.uint8)
    boxes = np.array([_bounds(one) for one in instance_masks], dtype=np.float32).reshape(-1, 4)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(image, mask, boxes, instance_masks, kept)


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
