"""Draws image, true and predicted instances side by side, with a legend."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError
from footplate.registry import HOOKS, VISUALIZERS
from footplate.storage import check_output_path, output_path
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.visualization_hook import BaseVisualizationHook
from footplate.visualization import Color, LegendEntry, Visualizer, arrange_panels, as_array, as_rgb, distinct_colors

if TYPE_CHECKING:
    from footplate.engine import Runner

_Image = npt.NDArray[np.uint8]
_TEXT_SIZE = 12
_SMALLEST = 320  # pixels of the longer side, so that the labels of boxes are readable


@VISUALIZERS.register_module()
class DetLocalVisualizer(Visualizer):
    """Draws boxes, classes, masks and keypoints of a DetDataSample on its image. Small images are enlarged.

    Keypoints are `keypoints` of the instances, ``(N, K, 2)`` or ``(N, K, 3)``, connected by the `skeleton_links` of the
    dataset's `metainfo`.

    Args:
        name: The name by which `get_instance` finds it.
        image: The initial image, ``(H, W, 3)``, uint8, RGB.
        vis_backends: Visualization backends, as objects or configs for VISBACKENDS.
        save_dir: The folder of the run.
        bbox_color: One colour for all boxes, or one for each class. By default the palette of the dataset, extended
            with distinct colours.
        text_color: The colour of the labels; by default black or white, whichever has more contrast.
        line_width: The line width of boxes, in pixels.
        alpha: The opacity of masks, 0 to 1.

    Raises:
        ArgumentError: `alpha` is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> DetLocalVisualizer().render(np.zeros((64, 64, 3), np.uint8), None).shape[2]
        3
    """

    def __init__(
        self,
        name: str = "visualizer",
        image: Any = None,
        vis_backends: Sequence[Any] | None = None,
        save_dir: str | None = None,
        bbox_color: Color | Sequence[Color] | None = None,
        text_color: Color | None = None,
        line_width: float = 2,
        alpha: float = 0.4,
    ) -> None:
        super().__init__(name, image, vis_backends, save_dir)
        if not 0 <= alpha <= 1:
            raise ArgumentError("alpha must be between 0 and 1", key="alpha", found=alpha)
        self.bbox_color = bbox_color
        self.text_color = text_color
        self.line_width = line_width
        self.alpha = alpha

    def add_datasample(
        self,
        name: str,
        image: Any,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        *,
        pred_score_thr: float = 0.3,
    ) -> None:
        """Draws a sample; see `Visualizer.add_datasample`.

        Args:
            name: The name of the image.
            image: ``(H, W, 3)``, uint8, RGB.
            data_sample: The sample of the image.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            show: Whether to show the image on the screen.
            wait_time: The minimum time to show an image, in seconds.
            out_file: The file to save the image to, instead of sending it to the backends.
            step: The iteration or epoch.
            pred_score_thr: The minimum score of predictions to draw.
        """
        if data_sample is not None and "pred_instances" in data_sample:
            found = data_sample.pred_instances
            data_sample = data_sample.clone()
            data_sample.pred_instances = found[found.scores >= pred_score_thr]
        super().add_datasample(name, image, data_sample, draw_gt, draw_pred, show, wait_time, out_file, step)

    def render(
        self, image: Any, data_sample: DetDataSample | None, *, draw_gt: bool = True, draw_pred: bool = True
    ) -> _Image:
        """Returns image, ground truth and prediction side by side; missing ones are omitted.

        Args:
            image: ``(H, W, 3)``, uint8, RGB.
            data_sample: A sample with `gt_instances`, `pred_instances`, or both. True boxes are scaled from `img_shape`
                to the size of the image, predicted boxes from `ori_shape`.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
        """
        self.set_image(image)
        size = self.get_image().shape[:2]
        zoom = max(1, -(-_SMALLEST // max(size)))  # enlarges small images, without smoothing
        plain = self.get_image().repeat(zoom, axis=0).repeat(zoom, axis=1)
        wanted = {
            "truth": ("gt_instances", "img_shape", draw_gt),
            "prediction": ("pred_instances", "ori_shape", draw_pred),
        }
        panels = {"image": plain}
        labels: set[int] = set()
        for caption, (field, shape, draw) in wanted.items():
            if draw and data_sample is not None and field in data_sample:
                instances = data_sample.get(field)
                panels[caption] = self._overlay(plain, instances, data_sample.get(shape, size))
                labels |= set(as_array(instances.labels).tolist())
        colors = self._colors(max(labels, default=-1) + 1)
        return arrange_panels(panels, [LegendEntry(colors[each], self._name_of(each)) for each in sorted(labels)])

    def _overlay(self, image: _Image, instances: InstanceData, shape: Sequence[int]) -> _Image:
        height, width = image.shape[:2]
        factor = np.array([width / shape[1], height / shape[0]] * 2)
        labels = as_array(instances.labels).tolist()
        palette = self._colors(max(labels, default=-1) + 1)
        colors = [palette[label] for label in labels]
        self.set_image(image)
        if not labels:
            return self.get_image()
        if "masks" in instances:
            masks = [Image.fromarray(mask.astype(np.uint8)) for mask in as_array(instances.masks)]
            resized = [np.asarray(mask.resize((width, height), Image.Resampling.NEAREST)) for mask in masks]
            self.draw_binary_masks(np.array(resized, dtype=bool), colors, self.alpha)
        boxes = as_array(instances.bboxes) * factor
        self.draw_bboxes(boxes, edge_colors=colors, line_widths=self.line_width)
        if "keypoints" in instances:
            points = as_array(instances.keypoints) * [*factor[:2], 1][: instances.keypoints.shape[-1]]
            self.draw_keypoints(points, colors, self.line_width + 1, self.dataset_meta.get("skeleton_links", ()))
        scores = as_array(instances.scores).tolist() if "scores" in instances else [None] * len(labels)
        for box, label, score, color in zip(boxes, labels, scores, colors, strict=True):
            text = self._name_of(label) if score is None else f"{self._name_of(label)} {score:.2f}"
            is_bright = np.dot(color, (0.299, 0.587, 0.114)) > 140
            ink = self.text_color or ((0, 0, 0) if is_bright else (255, 255, 255))
            self.draw_texts(text, box[None, :2], font_sizes=_TEXT_SIZE, colors=ink, background=color)
        return self.get_image()

    def _colors(self, count: int) -> list[tuple[int, int, int]]:
        palette: Any = self.bbox_color or self.dataset_meta.get("palette") or ()
        single = isinstance(palette, str) or (len(palette) > 0 and all(isinstance(each, int) for each in palette))
        colors = [as_rgb(palette)] * count if single else [as_rgb(color) for color in palette]
        return colors + distinct_colors(count)[len(colors) :]

    def _name_of(self, position: int) -> str:
        classes = self.dataset_meta.get("classes") or ()
        return str(classes[position]) if position < len(classes) else f"class {position}"


@HOOKS.register_module()
class DetVisualizationHook(BaseVisualizationHook):
    """Draws image, ground truth and prediction of every `interval`-th batch of a validation or test run.

    Args:
        draw: Whether to draw at all.
        interval: Draw every `interval`-th batch.
        score_thr: The minimum score of predictions to draw.
        show: Whether to also show the images on the screen.
        wait_time: The minimum time to show an image, in seconds.
        test_out_dir: A subfolder of the run's folder for images of a test run. If set, these images are saved there
            instead of being sent to the visualization backends.
        backend_args: Ignored; accepted for compatibility.
        max_samples: The maximum number of images per batch; None draws all.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive, or `score_thr` is not between 0 and 1.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
        backend_args: dict[str, Any] | None = None,
        *,
        max_samples: int | None = None,
    ) -> None:
        super().__init__(draw, interval, show, wait_time, max_samples=max_samples)
        if not 0 <= score_thr <= 1:
            raise ArgumentError("score_thr must be between 0 and 1", key="score_thr", found=score_thr)
        self.score_thr = score_thr
        if test_out_dir is not None:
            check_output_path(test_out_dir, key="test_out_dir")
        self.test_out_dir = test_out_dir

    def options(self, runner: "Runner", mode: str, name: str) -> dict[str, Any]:
        """Returns the score threshold, and the output file of an image of a test run."""
        found: dict[str, Any] = {"out_file": None}
        if self.test_out_dir is not None and mode == "test":
            found["out_file"] = os.path.join(output_path(runner.log_dir, self.test_out_dir), f"{name}.png")
        if isinstance(self._visualizer, DetLocalVisualizer):
            found["pred_score_thr"] = self.score_thr
        return found
