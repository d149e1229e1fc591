"""Draws an image with its ground-truth and predicted instances side by side, with a legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from footplate.checks import check_fraction
from footplate.registry import HOOKS, VISUALIZERS
from footplate.visualization import as_array
from footplate_operators.polygons import rotated_box_corners
from footplate_vision.detection.data import DetDataSample, above_score
from footplate_vision.detection.matching import LabeledBoxes, match_boxes
from footplate_vision.structures import InstanceData
from footplate_vision.visualization import BaseVisualizationHook, TaskVisualizer

_TEXT_SIZE = 12


@VISUALIZERS.register_module()
class DetLocalVisualizer(TaskVisualizer):
    """Draws boxes, rotated boxes, classes and masks of a DetDataSample on its image. Small images are enlarged.

    Coordinates of ground-truth boxes refer to an image of size `img_shape`. Coordinates of predicted boxes refer to the
    original image of size `ori_shape`.

    Args:
        alpha: The opacity of masks, 0 to 1.
        settings: Arguments for `Visualizer`.

    Raises:
        ArgumentError: `alpha` is not between 0 and 1.

    Example:
        >>> DetLocalVisualizer().render(np.zeros((64, 64, 3), np.uint8), None).shape[2]
        3
    """

    fields = (("gt_instances", "img_shape"), ("pred_instances", "ori_shape"))
    least_size = 320  # so that the labels of boxes are readable

    def __init__(self, *args: Any, alpha: float = 0.4, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.alpha = check_fraction("alpha", alpha)

    def add_datasample(
        self,
        name: str,
        image: Any,
        data_sample: DetDataSample | None = None,
        *args: Any,
        pred_score_thr: float = 0.3,
        **settings: Any,
    ) -> None:
        """Draws a sample. Omits predictions with scores below `pred_score_thr`. See also `Visualizer.add_datasample`.

        Args:
            name: The name of the image.
            image: An RGB image ``(H, W, 3)``, uint8.
            data_sample: The sample of the image.
            args: Additional positional arguments for `Visualizer.add_datasample`.
            pred_score_thr: The minimum score of predictions to draw.
            settings: Additional keyword arguments for `Visualizer.add_datasample`.
        """
        super().add_datasample(name, image, above_score(data_sample, pred_score_thr), *args, **settings)

    def overlay(self, data: InstanceData, shape: Sequence[int]) -> set[int]:
        """Draws masks, boxes, classes and scores, and returns the drawn labels."""
        height, width = self.get_image().shape[:2]
        factor = np.array([width / shape[1], height / shape[0]] * 2)
        labels = as_array(data.labels).tolist()
        if not labels:
            return set()
        colors = [self.class_color(label) for label in labels]
        if "masks" in data:
            masks = (Image.fromarray(mask.astype(np.uint8)) for mask in as_array(data.masks))
            resized = [mask.resize((width, height), Image.Resampling.NEAREST) for mask in masks]
            self.draw_binary_masks(np.array(resized, dtype=bool), colors, self.alpha)
        boxes = as_array(data.bboxes)
        boxes, angles = boxes[:, :4] * factor, boxes[:, 4:]
        style: dict[str, Any] = {"edge_colors": colors, "line_widths": 2}
        if angles.size:  # rotated boxes: center, width, height and angle
            self.draw_polygons(list(rotated_box_corners(torch.from_numpy(np.hstack([boxes, angles])))), **style)
        else:
            self.draw_bboxes(boxes, **style)
        texts = [self.class_name(label) for label in labels]
        if "scores" in data:
            scores = as_array(data.scores).tolist()
            texts = [f"{name} {score:.2f}" for name, score in zip(texts, scores, strict=True)]
        are_bright = np.dot(colors, (0.299, 0.587, 0.114)) > 140
        inks = ["black" if is_bright else "white" for is_bright in are_bright]
        backgrounds = [{"facecolor": color} for color in colors]
        self.draw_texts(texts, boxes[:, :2], font_sizes=_TEXT_SIZE, colors=inks, bboxes=backgrounds)
        return set(labels)


@HOOKS.register_module()
class DetVisualizationHook(BaseVisualizationHook):
    """Draws images, ground truth and predictions for every `interval`-th batch of a validation or test run.

    Also draws the 8 images with the most errors: undetected boxes, false boxes, and boxes with the wrong class. Boxes
    match if their IoU is at least 0.5. Rotated boxes are not compared.

    Args:
        draw: Whether to enable drawing.
        interval: Draws only every `interval`-th batch.
        score_thr: The minimum score of predictions to draw.
        args: Further positional arguments for `BaseVisualizationHook`.
        settings: Further arguments for `BaseVisualizationHook`.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive, or `score_thr` is not between 0 and 1.
    """

    fields = ("gt_instances", "pred_instances")

    def __init__(
        self, draw: bool = False, interval: int = 50, score_thr: float = 0.3, *args: Any, **settings: Any
    ) -> None:
        super().__init__(draw, interval, *args, **settings)
        self.score_thr = check_fraction("score_thr", score_thr)

    def options(self) -> dict[str, Any]:
        """Returns the score threshold for a DetLocalVisualizer."""
        return {"pred_score_thr": self.score_thr} if isinstance(self._visualizer, DetLocalVisualizer) else {}

    def error(self, sample: DetDataSample) -> tuple[float, str]:
        """Returns the number of errors among the predictions that are drawn."""
        sample = above_score(sample, self.score_thr)
        truth, predicted = (as_array(sample.get(field).bboxes) for field in self.fields)
        if not truth.shape[-1] == predicted.shape[-1] == 4:
            return 0.0, ""
        height, width = np.divide(sample.get("ori_shape", (1, 1))[:2], sample.get("img_shape", (1, 1))[:2])
        crowds = sample.get("ignored_instances", {}).get("bboxes", ())
        scale = np.array([width, height] * 2)
        pairs = match_boxes(
            LabeledBoxes(truth * scale, as_array(sample.gt_instances.labels)),
            LabeledBoxes(predicted, as_array(sample.pred_instances.labels)),
            as_array(crowds) * scale if len(crowds) else (),
            no_object=-1,
        )
        missed, false = (sum(pair[side] == -1 for pair in pairs) for side in (1, 0))
        wrong = sum(-1 not in pair and pair[0] != pair[1] for pair in pairs)
        counts = {"undetected": missed, "false": false, "of the wrong class": wrong}
        return missed + false + wrong, ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
