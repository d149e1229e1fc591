"""Draws an image, its ground-truth and predicted label maps, and an error map side by side, with a legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from footplate.checks import check_fraction
from footplate.registry import HOOKS, VISUALIZERS
from footplate.visualization import Color, ImageArray, as_array
from footplate_vision.segmentation.data import SegDataSample
from footplate_vision.structures import PixelData
from footplate_vision.visualization import BaseVisualizationHook, TaskVisualizer

_IGNORED = 255  # the usual label of ignored pixels
_WRONG = (230, 30, 60)


@VISUALIZERS.register_module()
class SegLocalVisualizer(TaskVisualizer):
    """Draws the label maps of a SegDataSample on its image. Label 255 is not drawn.

    Args:
        classes: The class names; by default, the class names of the dataset.
        palette: The class colors; by default, the dataset's palette, or distinct colors if it has none.
        alpha: The opacity of the colors, 0 to 1.
        settings: Arguments for `Visualizer`.

    Raises:
        ArgumentError: `alpha` is not between 0 and 1.

    Example:
        >>> visualizer = SegLocalVisualizer(classes=["ground", "shoe"])
        >>> visualizer.render(np.zeros((64, 64, 3), np.uint8), None).shape[2]
        3
    """

    fields = (("gt_sem_seg", "img_shape"), ("pred_sem_seg", "ori_shape"))

    def __init__(
        self,
        *args: Any,
        classes: Sequence[str] | None = None,
        palette: Sequence[Color] | None = None,
        alpha: float = 0.8,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.alpha = check_fraction("alpha", alpha)
        self._classes, self._palette = classes, palette

    def overlay(self, data: PixelData, shape: Sequence[int]) -> set[int]:
        """Colors the pixels of the image according to a label map of the same size, and returns the drawn labels."""
        labels = as_array(data.data)[0].astype(np.int64)
        drawn = [label for label in np.unique(labels).tolist() if 0 <= label != _IGNORED]
        masks = np.reshape([labels == label for label in drawn], (-1, *labels.shape))
        self.draw_binary_masks(masks, [self.class_color(label) for label in drawn], self.alpha)
        return set(drawn)

    def difference(self, truth: PixelData, prediction: PixelData) -> ImageArray | None:
        """Returns the image in grayscale with misclassified pixels in red. Ignores pixels without a true class.

        Returns None if the label maps differ in size.
        """
        true, predicted = (as_array(pixels.data)[0].astype(np.int64) for pixels in (truth, prediction))
        if true.shape != predicted.shape:
            return None
        gray = self.get_image().mean(axis=2, keepdims=True).repeat(3, axis=2)
        self.set_image((0.5 * gray + 110).astype(np.uint8))
        self.draw_binary_masks(((true != predicted) & (true != _IGNORED))[None], [_WRONG], 1.0)
        return self.get_image()


@HOOKS.register_module()
class SegVisualizationHook(BaseVisualizationHook):
    """Draws images, ground truth and predictions for every `interval`-th batch of a validation or test run.

    Also draws the 8 images with the most wrong pixels, relative to the pixels with a true class.

    Takes the same arguments as `BaseVisualizationHook`.

    Source: the hooks page of the MMSegmentation documentation, "SegVisualizationHook".
    """

    fields = ("gt_sem_seg", "pred_sem_seg")

    def error(self, sample: SegDataSample) -> tuple[float, str]:
        """Returns the share of wrong pixels, or 0 if the label maps differ in size or have no true class."""
        truth, predicted = (as_array(sample.get(field).data) for field in self.fields)
        if truth.shape != predicted.shape:
            return 0.0, ""
        counted = truth != _IGNORED
        share = float((counted & (truth != predicted)).sum() / max(counted.sum(), 1))
        return share, f"{share:.1%} of the pixels are wrong"
