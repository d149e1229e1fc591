"""Predicts on large images in overlapping tiles, and merges the predictions.

Tiles are read one after the other, in windows of the file if it is a TIFF file and rasterio is installed. All tiles
have the same size; the last ones of a row and of a column are shifted inward.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from footplate.errors import ArgumentError, DataError
from footplate.visualization import as_array
from footplate_vision.structures import PixelData

Pixels = NDArray[np.uint8]
_Mask = tuple[int, int, NDArray[Any]]  # the column and row of the upper left corner, and the content
_DENSE_MASKS = 2**30  # bytes of masks that are joined in one tensor
_SAME = 0.5  # the minimum overlap of two detections of one object, within the area that both tiles see
_EDGE = 2.0  # pixels: a box that comes so close to an inner edge of its tile may be cut


class Tile(NamedTuple):
    """A window of an image: the columns from `x` to `x + width`, and the rows from `y` to `y + height`."""

    x: int
    y: int
    width: int
    height: int

    def cuts(self, corners: NDArray[Any], width: int, height: int) -> bool:
        """Checks whether an inner edge of the tile may cut a box in an image of the given size."""
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        end = self.x + self.width, self.y + self.height
        return bool(
            (self.x > 0 and left < self.x + _EDGE)
            or (self.y > 0 and top < self.y + _EDGE)
            or (end[0] < width and right > end[0] - _EDGE)
            or (end[1] < height and bottom > end[1] - _EDGE)
        )


def tiles_of(width: int, height: int, tile: int, overlap: float) -> list[Tile]:
    """Returns the tiles of an image, row by row. `overlap` is the minimum overlap of neighbors, relative to a tile."""
    starts = [_starts(length, tile, overlap) for length in (width, height)]
    return [Tile(x, y, min(tile, width), min(tile, height)) for y in starts[1] for x in starts[0]]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    step = max(1, int(tile * (1 - overlap)))
    return [*range(0, max(0, length - tile), step), max(0, length - tile)]


@contextmanager
def open_windows(
    image: str | Pixels, load: Callable[[str], Pixels]
) -> Iterator[tuple[int, int, Callable[[Tile], Pixels]]]:
    """Yields the width and height of an image, and a function that reads a tile as a uint8 RGB or grayscale array.

    Args:
        image: The path of the image, or its pixels.
        load: Reads a whole file. Called unless the file is a TIFF file and rasterio is installed.

    Raises:
        DataError: The file cannot be read, or is a TIFF file whose pixels are not 8-bit grayscale or RGB.
    """
    if isinstance(image, str) and image.lower().endswith((".tif", ".tiff")) and (rasterio := _rasterio()) is not None:
        try:
            with _open_quietly(rasterio, image) as file:
                if {*file.dtypes} != {"uint8"} or file.count not in (1, 3, 4):
                    raise DataError(
                        f"'{image}' cannot be read in tiles: needs 8-bit pixels in 1, 3 or 4 bands",
                        found=f"{file.count} bands of {', '.join(sorted(set(file.dtypes)))}",
                    )
                bands = [1] if file.count == 1 else [1, 2, 3]

                def read(tile: Tile) -> Pixels:
                    window = rasterio.windows.Window(*tile)
                    pixels: Pixels = np.moveaxis(file.read(bands, window=window), 0, -1)
                    return pixels[..., 0] if len(bands) == 1 else np.ascontiguousarray(pixels)

                yield file.width, file.height, read
        except rasterio.errors.RasterioError as error:
            raise DataError(f"'{image}' cannot be read: {error}") from error
        return
    pixels = load(image) if isinstance(image, str) else image
    yield pixels.shape[1], pixels.shape[0], lambda tile: pixels[tile.y :, tile.x :][: tile.height, : tile.width]


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.windows
    except ImportError:
        return None
    return rasterio


def _open_quietly(rasterio: Any, path: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path)


def merge(tiles: Sequence[Tile], predictions: Iterable[Any], threshold: float) -> Any:
    """Merges the predictions for the tiles of an image. Returns a data element.

    Args:
        tiles: The tiles, row by row.
        predictions: The predictions for these tiles, in the same order.
        threshold: The minimum probability of the foreground, for a segmentation model with one output channel.

    Raises:
        ArgumentError: Predictions of this kind cannot be merged.
    """
    width, height = tiles[-1].x + tiles[-1].width, tiles[-1].y + tiles[-1].height
    labels, instances, first = LabelMap(tiles, threshold), MergedInstances(width, height), None
    for tile, prediction in zip(tiles, predictions, strict=True):
        first = prediction if first is None else first
        fields = prediction.keys() if hasattr(prediction, "keys") else ()
        if "pred_instances" in fields:
            instances.add(tile, prediction.pred_instances)
        if "seg_logits" in fields:
            labels.add(tile, as_array(prediction.seg_logits.data))
        elif "pred_instances" not in fields:
            raise ArgumentError(
                "Predictions of this model cannot be merged from tiles",
                found=list(fields) or type(prediction).__name__,
                notes=["Tiles need a detector, or a segmentation model that returns `seg_logits`."],
            )
    assert first is not None  # an image has at least one tile
    merged = type(first)(metainfo={**first.metainfo, "ori_shape": (height, width), "img_shape": (height, width)})
    if "pred_instances" in first:
        merged.pred_instances = instances.merged()
    if labels.labels is not None:
        merged.pred_sem_seg = PixelData(data=torch.from_numpy(labels.labels)[None])
    return merged


class LabelMap:
    """Averages the scores of overlapping tiles, and keeps the class with the highest mean for each pixel.

    Only the pixels that later tiles overlap keep scores: a part of the current row of tiles, and the lower rows of the
    previous one. Memory therefore does not grow with the height of the image.

    Args:
        tiles: The tiles of the image, row by row.
        threshold: The minimum probability of the foreground, if the scores have one channel.

    Attributes:
        labels: The classes ``(H, W)``, or None before the first tile.
    """

    def __init__(self, tiles: Sequence[Tile], threshold: float) -> None:
        last = tiles[-1]
        self._size = last.y + last.height, last.x + last.width
        self._ends = [  # where the next tile begins
            dict(zip(starts, [*starts[1:], length], strict=True))
            for starts, length in (
                (sorted({tile.x for tile in tiles}), self._size[1]),
                (sorted({tile.y for tile in tiles}), self._size[0]),
            )
        ]
        self._counts = [np.zeros(length, np.float32) for length in (self._size[1], self._size[0])]
        for start in self._ends[0]:
            self._counts[0][start : start + last.width] += 1
        for start in self._ends[1]:
            self._counts[1][start : start + last.height] += 1
        self._threshold = threshold
        # The sums (C, ...) of the previous tiles in this row, of the previous row, and of this row for the next one.
        self._left: NDArray[Any]
        self._above: NDArray[Any]
        self._below: NDArray[Any]
        self.labels: NDArray[Any] | None = None

    def add(self, tile: Tile, scores: NDArray[Any]) -> None:
        """Adds the scores ``(C, H, W)`` of the next tile."""
        end, bottom = self._ends[0][tile.x], self._ends[1][tile.y]
        sums = scores.astype(np.float32)
        if self.labels is None:
            self.labels = np.zeros(self._size, np.uint8 if len(sums) <= 256 else np.int32)
            self._below = np.zeros((len(sums), 0, self._size[1]), np.float32)
        if tile.x == 0:
            self._above = self._below
            self._below = np.zeros((len(sums), tile.y + tile.height - bottom, self._size[1]), np.float32)
        else:
            sums[..., : self._left.shape[-1]] += self._left
        width, height = end - tile.x, bottom - tile.y
        self._left, part = sums[..., width:], sums[..., :width]
        part[:, : self._above.shape[1]] += self._above[..., tile.x : end]
        self._below[..., tile.x : end] = part[:, height:]
        done = part[:, :height]
        if len(done) > 1:
            found = done.argmax(axis=0)
        else:
            counts = self._counts[1][tile.y : bottom, None] * self._counts[0][tile.x : end]
            found = done[0] / counts > self._threshold
        self.labels[tile.y : bottom, tile.x : end] = found


class MergedInstances:
    """Joins detections of one object in several tiles.

    Two detections of a class in different tiles are one object if their intersection over union is at least 0.5, within
    the area that both tiles see or as a whole. Of the detections of an object, the best one that no tile cuts is kept.
    If all of them are cut, the result is the box around them. Masks are united. The rule extends that of SAHI, which
    compares whole boxes, to objects that are larger than the overlap.

    Source: Akyon et al., Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection,
    https://arxiv.org/abs/2202.06934

    Args:
        width: The width of the image in pixels.
        height: The height of the image in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._parts: list[Any] = []  # without boxes and masks
        self._is_rotated = False
        self._tiles: list[Tile] = []  # of each detection, like the other lists
        self._corners: list[NDArray[Any]] = []
        self._angles: list[float | None] = []
        self._masks: list[_Mask] = []

    def add(self, tile: Tile, instances: Any) -> None:
        """Adds the detections in a tile.

        Raises:
            ArgumentError: A field, such as key points, cannot be moved to the position of the tile.
        """
        rest = {key: value for key, value in instances.items() if key not in ("bboxes", "masks")}
        if other := [key for key, value in rest.items() if np.ndim(as_array(value)) != 1]:
            raise ArgumentError("Instances with these fields cannot be merged from tiles", found=sorted(other))
        boxes = as_array(getattr(instances.bboxes, "tensor", instances.bboxes)).astype(np.float64)
        corners = [_corners_of(box) + (tile.x, tile.y) for box in boxes]
        for number, mask in enumerate(as_array(instances.masks) if "masks" in instances else ()):
            (left, top), (right, bottom) = corners[number].min(0), corners[number].max(0)
            x, y = max(tile.x, int(left) - 1), max(tile.y, int(top) - 1)  # a mask may exceed its box slightly
            rows, columns = slice(y - tile.y, int(bottom) + 2 - tile.y), slice(x - tile.x, int(right) + 2 - tile.x)
            self._masks.append((x, y, mask[rows, columns].astype(bool)))
        self._is_rotated = boxes.shape[-1] == 5
        self._parts.append(instances.new(**rest))
        self._corners += corners
        self._angles += [float(box[4]) if len(box) == 5 else None for box in boxes]
        self._tiles += [tile] * len(boxes)

    def merged(self) -> Any:
        """Returns the joined instances, best first."""
        joined = self._parts[0].cat(self._parts)
        scores = as_array(joined.scores)
        groups = sorted(self._groups(), key=lambda group: -max(scores[member] for member in group))
        kept, boxes = list[int](), list[Any]()
        for group in groups:
            group.sort(
                key=lambda member: (self._tiles[member].cuts(self._corners[member], *self._size), -scores[member])
            )
            best = group[0]
            is_cut = self._tiles[best].cuts(self._corners[best], *self._size)
            corners = np.concatenate([self._corners[member] for member in (group if is_cut else [best])])
            kept.append(best)
            boxes.append(_box_around(corners, self._angles[best]))
        result = joined[torch.tensor(kept, dtype=torch.long)]
        result.bboxes = torch.tensor(np.reshape(boxes, (len(kept), 5 if self._is_rotated else 4)), dtype=torch.float32)
        if self._masks:
            united = TiledMasks([self._united(group) for group in groups], self._size)
            is_small = len(groups) * self._size[0] * self._size[1] <= _DENSE_MASKS
            result.masks = torch.from_numpy(np.asarray(united)) if is_small else united
        return result

    def _groups(self) -> list[list[int]]:
        """Returns the detections of each object. An object has at most one detection in a tile."""
        labels = np.concatenate([as_array(part.labels) for part in self._parts])
        members: dict[Tile, list[int]] = {}
        for number, tile in enumerate(self._tiles):
            members.setdefault(tile, []).append(number)
        matches = []
        for one, other in combinations(members, 2):
            left, top = max(one.x, other.x), max(one.y, other.y)
            right, bottom = (
                min(one.x + one.width, other.x + other.width),
                min(one.y + one.height, other.y + other.height),
            )
            if left >= right or top >= bottom:
                continue
            shared = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            seen = [
                [number for number in members[tile] if _touch(self._corners[number], shared)] for tile in (one, other)
            ]
            wholes = [[self._corners[number] for number in numbers] for numbers in seen]
            clip = _clip if self._is_rotated else _clip_upright
            parts = [[clip(corners, shared) for corners in found] for found in wholes]
            # Boxes that agree as a whole are one object even if a tile's edge has moved one of them.
            same = np.maximum(_ious(wholes[0], wholes[1], clip), _ious(parts[0], parts[1], clip))
            same[labels[seen[0]][:, None] != labels[seen[1]]] = 0
            matches += [(same[at, place], seen[0][at], seen[1][place]) for at, place in np.argwhere(same >= _SAME)]
        group_of = {number: [number] for number in range(len(self._tiles))}
        for _, first, second in sorted(matches, reverse=True):
            group, joining = group_of[first], group_of[second]
            tiles = [self._tiles[member] for member in (*group, *joining)]
            if group is not joining and len({*tiles}) == len(tiles):
                group += joining
                group_of.update(dict.fromkeys(joining, group))
        return list({id(group): group for group in group_of.values()}.values())

    def _united(self, group: Sequence[int]) -> _Mask:
        """Returns the union of the masks of an object."""
        parts = [self._masks[member] for member in group]
        left, top = min(x for x, _, _ in parts), min(y for _, y, _ in parts)
        right, bottom = max(x + part.shape[1] for x, _, part in parts), max(y + part.shape[0] for _, y, part in parts)
        united = np.zeros((bottom - top, right - left), bool)
        for x, y, part in parts:
            united[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] |= part
        return left, top, united


class TiledMasks:
    """The masks ``(N, H, W)`` of an image that is too large to store them whole. `masks[0]` is the first one.

    Args:
        masks: The position and the content of each mask.
        size: The width and height of the image.
    """

    def __init__(self, masks: Sequence[_Mask], size: tuple[int, int]) -> None:
        self._masks = masks
        self._size = size

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int):
            places = np.arange(len(self))[index if isinstance(index, slice) else as_array(index)]
            return TiledMasks([self._masks[place] for place in places], self._size)
        x, y, part = self._masks[index]
        whole = np.zeros(self._size[::-1], bool)
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        return whole

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array([self[index] for index in range(len(self))], dtype or bool).reshape(-1, *self._size[::-1])


def _corners_of(box: NDArray[Any]) -> NDArray[Any]:
    """Returns the corners ``(4, 2)`` of a box, or of a rotated box (center, size and angle in radians)."""
    if len(box) == 4:
        (left, top, right, bottom) = box
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    offsets = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * box[2:4] / 2
    return np.asarray(box[:2] + offsets @ _rotation(box[4]).T)


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _box_around(corners: NDArray[Any], angle: float | None) -> NDArray[Any]:
    """Returns the smallest box around points, with the given angle if it is rotated."""
    turn = _rotation(angle or 0.0)
    turned = corners @ turn
    low, high = turned.min(axis=0), turned.max(axis=0)
    return np.array([*low, *high] if angle is None else [*(turn @ ((low + high) / 2)), *(high - low), angle])


def _clip(polygon: NDArray[Any], window: NDArray[Any]) -> NDArray[Any]:
    """Returns the part ``(M, 2)`` of a convex polygon ``(N, 2)`` within another one. Both have the same orientation."""
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        if not len(polygon):
            break
        edge, to_points = end - start, polygon - start
        inside = edge[0] * to_points[:, 1] - edge[1] * to_points[:, 0]
        corners = []
        for here, there, at, behind in zip(
            polygon, np.roll(polygon, -1, axis=0), inside, np.roll(inside, -1), strict=True
        ):
            if at >= 0:
                corners.append(here)
            if (at >= 0) != (behind >= 0):
                corners.append(here + (there - here) * (at / (at - behind)))
        polygon = np.array(corners).reshape(-1, 2)
    return polygon


def _area(polygon: NDArray[Any]) -> float:
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _touch(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Checks whether the upright boxes around two polygons overlap."""
    return bool((one.max(0) > other.min(0)).all() and (other.max(0) > one.min(0)).all())


def _clip_upright(box: NDArray[Any], window: NDArray[Any]) -> NDArray[Any]:
    """Returns the part of an upright box within another one that it touches."""
    return np.asarray(np.clip(box, window.min(axis=0), window.max(axis=0)))


def _ious(one: Sequence[Any], other: Sequence[Any], clip: Callable[..., Any]) -> NDArray[np.float64]:
    """Returns the intersection over union of each pair of convex polygons, ``(N, M)``."""
    ious = np.zeros((len(one), len(other)))
    bounds = [[(each.min(0), each.max(0)) for each in polygons] for polygons in (one, other)]
    areas = [[*map(_area, polygons)] for polygons in (one, other)]
    for at, (low, high) in enumerate(bounds[0]):
        for place, (other_low, other_high) in enumerate(bounds[1]):
            if (low < other_high).all() and (other_low < high).all():
                both = _area(clip(one[at], other[place]))
                ious[at, place] = both / max(areas[0][at] + areas[1][place] - both, 1e-9)
    return ious
