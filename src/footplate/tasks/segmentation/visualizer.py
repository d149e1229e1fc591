"""Draws image, true and predicted label maps side by side, with a legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from footplate.errors import ArgumentError
from footplate.registry import HOOKS, VISUALIZERS
from footplate.tasks.segmentation.sample import SegDataSample
from footplate.tasks.visualization_hook import BaseVisualizationHook
from footplate.visualization import Color, LegendEntry, Visualizer, arrange_panels, as_array, as_rgb, distinct_colors

_Classes = npt.NDArray[np.int64]
_Image = npt.NDArray[np.uint8]
_IGNORED = 255  # the usual label of ignored pixels


@VISUALIZERS.register_module()
class SegLocalVisualizer(Visualizer):
    """Draws the classes of a SegDataSample on its image.

    Args:
        name: The name by which `get_instance` finds it.
        image: The initial image, ``(H, W, 3)``, uint8, RGB.
        vis_backends: Visualization backends, as objects or configs for VISBACKENDS.
        save_dir: The folder of the run.
        classes: The names of the classes; by default those of the dataset.
        palette: The colours of the classes; by default those of the dataset, or else distinct colours.
        alpha: The opacity of the colours, 0 to 1.

    Raises:
        ArgumentError: `alpha` is not between 0 and 1, or the numbers of names and colours differ.

    Example:
        >>> import numpy as np
        >>> visualizer = SegLocalVisualizer(classes=["ground", "shoe"])
        >>> visualizer.render(np.zeros((64, 64, 3), np.uint8), None).shape[2]
        3
    """

    def __init__(
        self,
        name: str = "visualizer",
        image: Any = None,
        vis_backends: Sequence[Any] | None = None,
        save_dir: str | None = None,
        classes: Sequence[str] | None = None,
        palette: Sequence[Color] | None = None,
        alpha: float = 0.8,
    ) -> None:
        super().__init__(name, image, vis_backends, save_dir)
        if not 0 <= alpha <= 1:
            raise ArgumentError("alpha must be between 0 and 1", key="alpha", found=alpha)
        if classes is not None and palette is not None and len(classes) != len(palette):
            raise ArgumentError(
                f"classes and palette must have one length, but have {len(classes)} and {len(palette)}", key="palette"
            )
        self.alpha = alpha
        self._classes, self._palette = classes, palette

    def render(
        self, image: Any, data_sample: SegDataSample | None, *, draw_gt: bool = True, draw_pred: bool = True
    ) -> _Image:
        """Returns image, ground truth and prediction side by side; missing ones are omitted.

        Args:
            image: ``(H, W, 3)``, uint8, RGB.
            data_sample: A sample with `gt_sem_seg`, `pred_sem_seg`, or both.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
        """
        self.set_image(image)
        plain = self.get_image()
        wanted = {"truth": ("gt_sem_seg", draw_gt), "prediction": ("pred_sem_seg", draw_pred)}
        maps: dict[str, _Classes] = {
            caption: as_array(data_sample.get(field).data)[0].astype(np.int64)
            for caption, (field, draw) in wanted.items()
            if draw and data_sample is not None and field in data_sample
        }
        found = {int(value) for classes in maps.values() for value in np.unique(classes)} - {_IGNORED}
        colors = dict(enumerate(self._colors(max(found, default=0) + 1)))
        shown = sorted(found & colors.keys())
        panels = {"image": plain}
        for caption, classes in maps.items():
            panels[caption] = self._overlay(plain, classes, colors)
        return arrange_panels(panels, [LegendEntry(colors[each], self._name_of(each)) for each in shown])

    def _overlay(self, image: _Image, classes: _Classes, colors: dict[int, tuple[int, int, int]]) -> _Image:
        """Colours the pixels of known classes; ignored pixels show the image."""
        present = [value for value in np.unique(classes).tolist() if value in colors and value != _IGNORED]
        self.set_image(image)
        masks = [classes == value for value in present]
        return self.draw_binary_masks(
            np.reshape(masks, (-1, *classes.shape)), [colors[value] for value in present], self.alpha
        ).get_image()

    def _colors(self, count: int) -> list[tuple[int, int, int]]:
        palette = self._palette or self.dataset_meta.get("palette") or distinct_colors(count)
        return [as_rgb(color) for color in palette]

    def _name_of(self, position: int) -> str:
        classes = self._classes or self.dataset_meta.get("classes") or ()
        return str(classes[position]) if position < len(classes) else f"class {position}"


@HOOKS.register_module()
class SegVisualizationHook(BaseVisualizationHook):
    """Draws image, ground truth and prediction of every `interval`-th batch of a validation or test run.

    Args:
        draw: Whether to draw at all.
        interval: Draw every `interval`-th batch.
        show: Whether to also show the images on the screen.
        wait_time: The minimum time to show an image, in seconds.
        backend_args: Ignored; accepted for compatibility.
        file_client_args: Same as above.
        max_samples: The maximum number of images per batch; None draws all.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive.

    Source: the hooks page of the MMSegmentation documentation, "SegVisualizationHook".
    """
