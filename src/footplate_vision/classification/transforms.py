"""Transforms for classification. Most change only the image of a sample, not its annotations."""

import math
from typing import Literal, get_args

import cv2
import numpy as np

from footplate.checks import check_choice, check_count, check_fraction
from footplate.data.transforms.cropping import crop_sample
from footplate.data.transforms.geometric import Backend, Interpolation, Resize, check_interpolation, resize_image
from footplate.data.transforms.pipeline import BaseTransform, Sample, check_range, check_size, set_image
from footplate.registry import TRANSFORMS

Edge = Literal["short", "long", "width", "height"]
Range = tuple[float, float]
_ATTEMPTS = 10  # the number of attempts to draw a crop that fits


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Crops the center of an image and its annotations. Does not pad smaller images.

    Args:
        crop_size: The output width and height, or one number for both.

    Raises:
        ArgumentError: The width or height is not positive.
    """

    def __init__(self, crop_size: int | tuple[int, int]) -> None:
        self.crop_size = check_size("crop_size", crop_size)

    def transform(self, results: Sample) -> Sample:
        """Crops the sample."""
        width, height = self.crop_size
        top, left = (
            max(0, round((present - wanted) / 2))
            for present, wanted in zip(results["img"].shape, (height, width), strict=False)
        )
        return crop_sample(results, (slice(top, top + height), slice(left, left + width)))


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Crops a random region of `img` and resizes it. Annotations are not changed.

    If no random region fits within the image in 10 attempts, crops the center.

    Args:
        scale: The output height and width, in this order as in MMPretrain, or one number for both.
        crop_ratio_range: The minimum and maximum area of the crop, as fractions of the image area.
        aspect_ratio_range: The minimum and maximum aspect ratio (width / height) of the crop, both positive; its
            logarithm is uniformly distributed.
        backend: See `Resize`.
        interpolation: See `Resize`.

    Raises:
        ArgumentError: The width or height is not positive, or a range is not a pair of ascending, non-negative numbers.

    Source: Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.
    """

    def __init__(
        self,
        scale: int | tuple[int, int],
        crop_ratio_range: Range = (0.08, 1.0),
        aspect_ratio_range: Range = (3 / 4, 4 / 3),
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self.scale = check_size("scale", scale)
        self.crop_ratio_range = check_range("crop_ratio_range", crop_ratio_range)
        self.aspect_ratio_range = check_range("aspect_ratio_range", aspect_ratio_range)
        self.backend, self.interpolation = check_interpolation(backend, interpolation)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        left, top, width, height = self._draw_crop(*results["img"].shape[:2])
        crop = results["img"][top : top + height, left : left + width]
        return set_image(results, resize_image(crop, self.scale[::-1], self.interpolation, self.backend))

    def _draw_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns the left, top, width and height of a random crop, or of a center crop if 10 attempts fail."""
        for _ in range(_ATTEMPTS):
            area = height * width * np.random.uniform(*self.crop_ratio_range)
            aspect = _log_uniform(*self.aspect_ratio_range)
            crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top, left = np.random.randint(height - crop_height + 1), np.random.randint(width - crop_width + 1)
                return left, top, crop_width, crop_height
        aspect = float(np.clip(width / height, *self.aspect_ratio_range))
        crop_width = min(width, max(1, round(height * aspect)))
        crop_height = min(height, max(1, round(width / aspect)))
        return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


@TRANSFORMS.register_module()
class ResizeEdge(BaseTransform):
    """Resizes `img` and its annotations so that one edge has a given length, like `Resize`.

    Keeps the aspect ratio, and rounds the other edge down as MMPretrain does.

    Args:
        scale: The length of the edge in pixels.
        edge: "short", "long", "width" or "height".
        backend: See `Resize`.
        interpolation: See `Resize`.

    Raises:
        ArgumentError: `scale` is not positive, or `edge` is unknown.
    """

    def __init__(
        self,
        scale: int,
        edge: Edge = "short",
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self.edge = check_choice("edge", edge, get_args(Edge))
        self.scale = check_count("scale", scale)
        self.resize = Resize(1, backend=backend, interpolation=interpolation)

    def transform(self, results: Sample) -> Sample:
        """Applies the transform to `img`, a uint8 image of shape ``(H, W)`` or ``(H, W, 3)``."""
        height, width = results["img"].shape[:2]
        lengths = {"width": width, "height": height, "short": min(width, height), "long": max(width, height)}
        length = lengths[self.edge]
        self.resize.scale = max(1, int(self.scale * width / length)), max(1, int(self.scale * height / length))
        return self.resize.transform(results)


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
        center = (extent - 1) / 2  # in OpenCV, the coordinates of a pixel are those of its center
        offset = center - linear @ center + self.shift * extent * np.array([right, down])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # from output to input coordinates
        results["img"] = cv2.warpAffine(image, np.column_stack([linear, offset]), size, flags=flags)
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
        levels = np.rint(255 * dim * (np.arange(256) / 255) ** power).astype(np.uint8)
        results["img"] = cv2.LUT(results["img"], levels)
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
            results["img"] = cv2.GaussianBlur(results["img"], (0, 0), np.random.uniform(*self.radius))
        return results


def _log_uniform(low: float, high: float) -> float:
    """Samples a number between two positive numbers, uniformly on a log scale."""
    return math.exp(np.random.uniform(math.log(low), math.log(high)))
