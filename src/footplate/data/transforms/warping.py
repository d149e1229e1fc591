"""Applies random affine transformations to images with a single resampling."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.data.transforms.base import BaseTransform
from footplate.data.transforms.drawing import log_uniform
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomWarp(BaseTransform):
    """Rotates, scales, stretches, shears, shifts and flips `img` around its center, in one affine transformation.

    Pixels from outside of the image are black. Only `img` is changed, so this transform is for classification.

    Args:
        turn: The maximum rotation in degrees, in both directions.
        scale: The smallest and the largest magnification; its logarithm is uniformly distributed.
        stretch: The maximum change of the logarithm of the aspect ratio is twice this number.
        shear: The maximum horizontal shear, as a fraction of the height.
        shift: The maximum shift along each axis, as a fraction of the image size.
        flip: The probability of a horizontal flip, from 0 to 1.

    Raises:
        ArgumentError: `scale` is no range above 0, or a number is out of its range.

    Example:
        >>> import numpy as np
        >>> RandomWarp(flip=1.0)(dict(img=np.array([[1, 2]], np.uint8)))["img"].tolist()
        [[2, 1]]
    """

    def __init__(
        self,
        *,
        turn: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        stretch: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        flip: float = 0.0,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ArgumentError("scale must be a range above 0", key="scale", found=scale)
        for name, value in (("turn", turn), ("stretch", stretch), ("shear", shear), ("shift", shift)):
            if value < 0:
                raise ArgumentError(f"{name} must not be negative", key=name, found=value)
        if not 0 <= flip <= 1:
            raise ArgumentError("flip is a share between 0 and 1", key="flip", found=flip)
        self.turn, self.scale, self.stretch = turn, (scale[0], scale[1]), stretch
        self.shear, self.shift, self.flip = shear, shift, flip

    def transform(self, results: dict[str, object]) -> dict[str, object]:
        """Changes `img`, ``(H, W)`` or ``(H, W, 3)``, uint8."""
        image = np.asarray(results["img"])
        size = (image.shape[1], image.shape[0])
        affine = Image.Transform.AFFINE
        back = tuple(self._draw_map(*size))
        warped = Image.fromarray(image).transform(size, affine, back, Image.Resampling.BILINEAR)
        results["img"] = np.asarray(warped)
        return results

    def _draw_map(self, width: int, height: int) -> list[float]:
        """Returns the six coefficients of the affine map from output to input coordinates."""
        turn, stretch, shear, right, down = np.random.uniform(-1, 1, 5).tolist()
        size = log_uniform(*self.scale)
        mirror = -1 if np.random.random() < self.flip else 1
        angle, aspect = math.radians(self.turn * turn), math.exp(self.stretch * stretch)
        shrink = np.diag([mirror / (size * aspect), aspect / size])
        lean = np.array([[1.0, self.shear * shear], [0.0, 1.0]])
        rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        linear: NDArray[np.float64] = shrink @ lean @ rotation
        extent = np.array([width, height])
        offset = extent / 2 - linear @ (extent / 2) + self.shift * extent * np.array([right, down])
        return [float(each) for row, start in zip(linear, offset, strict=True) for each in (*row, start)]

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"
