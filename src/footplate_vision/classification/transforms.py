"""Transforms for classification. Most change only the image of a sample, not its annotations.

Sizes are (width, height).
"""

import math
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

from footplate.checks import check_choice, check_count, check_fraction
from footplate.data.transforms.geometric import Resize, resize_image
from footplate.data.transforms.pipeline import BaseTransform, Sample, check_range, check_size, set_image
from footplate.registry import TRANSFORMS

Edge = Literal["short", "long", "width", "height"]
Range = tuple[float, float]
_ATTEMPTS = 10  # the number of attempts to draw a crop that fits


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Crops the center of `img`. Smaller images are padded with black on all sides. Annotations are not changed.

    Args:
        crop_size: The output width and height, or one number for both.

    Raises:
        ArgumentError: The width or height is not positive.
    """

    def __init__(self, crop_size: int | tuple[int, int]) -> None:
        self.crop_size = check_size("crop_size", crop_size)

    def transform(self, results: Sample) -> Sample:
        """Replaces `img`, of shape ``(H, W)`` or ``(H, W, C)``, with its center crop."""
        image, (width, height) = results["img"], self.crop_size
        missing = [max(0, wanted - present) for wanted, present in zip((height, width), image.shape[:2], strict=True)]
        margins = [(length // 2, length - length // 2) for length in missing] + [(0, 0)] * (image.ndim - 2)
        image = np.pad(image, margins) if any(missing) else image
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return set_image(results, np.ascontiguousarray(image[top : top + height, left : left + width]))


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Crops a random region of `img` and resizes it. Annotations are not changed.

    If no random region fits within the image in 10 attempts, crops the center.

    Args:
        scale: The output width and height, or one number for both.
        crop_ratio_range: The minimum and maximum area of the crop, as fractions of the image area.
        aspect_ratio_range: The minimum and maximum aspect ratio (width / height) of the crop, both positive; its
            logarithm is uniformly distributed.

    Raises:
        ArgumentError: The width or height is not positive, or a range is not a pair of ascending, non-negative numbers.

    Source: Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.
    """

    def __init__(
        self,
        scale: int | tuple[int, int],
        crop_ratio_range: Range = (0.08, 1.0),
        aspect_ratio_range: Range = (3 / 4, 4 / 3),
    ) -> None:
        self.scale = check_size("scale", scale)
        self.crop_ratio_range = check_range("crop_ratio_range", crop_ratio_range)
        self.aspect_ratio_range = check_range("aspect_ratio_range", aspect_ratio_range)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        left, top, width, height = self._draw_crop(*results["img"].shape[:2])
        crop = np.ascontiguousarray(results["img"][top : top + height, left : left + width])
        return set_image(results, resize_image(crop, self.scale))

    def _draw_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns the left, top, width and height of a random crop, or of a center crop if 10 attempts fail."""
        for _ in range(_ATTEMPTS):
            area = height * width * np.random.uniform(*self.crop_ratio_range)
            aspect = _log_uniform(*self.aspect_ratio_range)
            crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                left, top = np.random.randint(width - crop_width + 1), np.random.randint(height - crop_height + 1)
                return left, top, crop_width, crop_height
        aspect = float(np.clip(width / height, *self.aspect_ratio_range))
        crop_width = min(width, max(1, round(height * aspect)))
        crop_height = min(height, max(1, round(width / aspect)))
        return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


@TRANSFORMS.register_module()
class ResizeEdge(BaseTransform):
    """Resizes `img` and its annotations so that one edge has a given length, like `Resize`. Keeps the aspect ratio.

    Args:
        scale: The length of the edge in pixels.
        edge: "short", "long", "width" or "height".

    Raises:
        ArgumentError: `scale` is not positive, or `edge` is unknown.
    """

    def __init__(self, scale: int, edge: Edge = "short") -> None:
        self.edge = check_choice("edge", edge, get_args(Edge))
        self.scale = check_count("scale", scale)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        height, width = results["img"].shape[:2]
        lengths = {"width": width, "height": height, "short": min(width, height), "long": max(width, height)}
        return Resize(scale_factor=self.scale / lengths[self.edge]).transform(results)


@TRANSFORMS.register_module()
class RandomWarp(BaseTransform):
    """Randomly rotates, scales, stretches, shears, shifts and flips `img` in one affine transformation.

    Pixels outside the image become black. Annotations are not changed, so use this transform only for classification.

    Args:
        turn: The maximum rotation in either direction, in degrees.
        scale: The minimum and maximum scale, both positive; its logarithm is uniformly distributed.
        stretch: Half the maximum change in the log aspect ratio.
        shear: The maximum horizontal shear, as a fraction of the height.
        shift: The maximum shift along each axis, as a fraction of the image size.
        flip: The probability of a horizontal flip, from 0 to 1.

    Raises:
        ArgumentError: `scale` is not a range, or `flip` is not a probability.

    Example:
        >>> import numpy as np
        >>> RandomWarp(flip=1.0)(dict(img=np.array([[1, 2]], np.uint8)))["img"].tolist()
        [[2, 1]]
    """

    def __init__(
        self,
        *,
        turn: float = 0.0,
        scale: Range = (1.0, 1.0),
        stretch: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        flip: float = 0.0,
    ) -> None:
        self.turn = turn
        self.scale = check_range("scale", scale)
        self.stretch = stretch
        self.shear = shear
        self.shift = shift
        self.flip = check_fraction("flip", flip)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        image = np.asarray(results["img"])
        size = (image.shape[1], image.shape[0])
        turn, stretch, shear, right, down = np.random.uniform(-1, 1, 5).tolist()
        magnification = _log_uniform(*self.scale)
        mirror = -1 if np.random.random() < self.flip else 1
        angle, aspect = math.radians(self.turn * turn), math.exp(self.stretch * stretch)
        scaling = np.diag([mirror / (magnification * aspect), aspect / magnification])
        shearing = np.array([[1.0, self.shear * shear], [0.0, 1.0]])
        rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        linear = scaling @ shearing @ rotation
        extent = np.array(size)
        offset = extent / 2 - linear @ (extent / 2) + self.shift * extent * np.array([right, down])
        # Pillow needs the map from output to input coordinates.
        inverse = tuple(np.column_stack([linear, offset]).ravel().tolist())
        warped = Image.fromarray(image).transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
        results["img"] = np.asarray(warped)
        return results


@TRANSFORMS.register_module()
class RandomTone(BaseTransform):
    """Changes the tone of `img` randomly. Each value, scaled to 0 to 1, becomes ``factor * value ** exponent``.

    Args:
        gamma: The natural logarithm of the exponent is sampled uniformly from ``-gamma`` to ``gamma``.
        dim: The factor is sampled uniformly from ``1 - dim`` to 1.

    Raises:
        ArgumentError: `dim` is not between 0 and 1.
    """

    def __init__(self, *, gamma: float = 0.0, dim: float = 0.0) -> None:
        self.gamma = gamma
        self.dim = check_fraction("dim", dim)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image."""
        power, dim = math.exp(self.gamma * np.random.uniform(-1, 1)), 1 - self.dim * np.random.random()
        # A lookup table of 256 values is faster than computing every pixel.
        levels = np.rint(255 * dim * (np.arange(256) / 255) ** power).astype(np.uint8)
        results["img"] = levels[results["img"]]
        return results


@TRANSFORMS.register_module()
class RandomBlur(BaseTransform):
    """Blurs `img` with a Gaussian filter of random size.

    Args:
        prob: The probability of blurring, from 0 to 1.
        radius: The minimum and maximum standard deviation, in pixels.

    Raises:
        ArgumentError: `prob` is not between 0 and 1, or `radius` is not a range.
    """

    def __init__(self, *, prob: float = 0.5, radius: Range = (0.1, 1.0)) -> None:
        self.prob = check_fraction("prob", prob)
        self.radius = check_range("radius", radius)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image."""
        if np.random.random() < self.prob:
            blur = ImageFilter.GaussianBlur(np.random.uniform(*self.radius))
            results["img"] = np.asarray(Image.fromarray(results["img"]).filter(blur))
        return results


def _log_uniform(low: float, high: float) -> float:
    """Samples a number between two positive numbers, uniformly on a log scale."""
    return math.exp(np.random.uniform(math.log(low), math.log(high)))
