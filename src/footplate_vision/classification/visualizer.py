"""Draws an image and its most probable classes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from footplate.checks import check_count
from footplate.engine import Run
from footplate.registry import HOOKS, VISUALIZERS
from footplate.visualization import ImageArray, as_array, skipping_failed_image
from footplate.visualization.drawing import text_font
from footplate_vision.classification.data import ClsDataSample
from footplate_vision.classification.metric import ConfusionMatrix, class_names, predicted_label
from footplate_vision.panels import BLUE, INK, ORANGE, PAPER, arrange_panels
from footplate_vision.visualization import BaseVisualizationHook, TaskVisualizer, origin_of_image

_PANEL = 256


@VISUALIZERS.register_module()
class ClsVisualizer(TaskVisualizer):
    """Draws an image next to a bar chart of its most probable classes, with the true class in blue.

    Args:
        classes: The class names; by default, the class names of the dataset.
        topk: The number of classes to show.
        settings: Arguments for `Visualizer`.

    Raises:
        ArgumentError: `topk` is not positive.

    Example:
        >>> import numpy as np
        >>> sample = ClsDataSample().set_gt_label(0).set_pred_score([0.7, 0.3])
        >>> ClsVisualizer(classes=["shoe", "bag"]).render(np.zeros((28, 28), np.uint8), sample).shape[2]
        3
    """

    def __init__(self, *args: Any, classes: Sequence[str] | None = None, topk: int = 5, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._classes, self.topk = classes, check_count("topk", topk)

    def render(
        self, image: Any, data_sample: ClsDataSample | None, *, draw_gt: bool = True, draw_pred: bool = True
    ) -> ImageArray:
        """Draws the image with its true class, next to a bar chart of the prediction.

        Args:
            image: A uint8 image: RGB ``(H, W, 3)`` or grayscale ``(H, W)``.
            data_sample: A sample with `gt_label`, `pred_score`, or both.
            draw_gt: Whether to show the true class.
            draw_pred: Whether to draw the prediction.
        """
        self.set_image(image)
        pixels = Image.fromarray(self.get_image())
        panel = ImageOps.pad(pixels, (_PANEL, _PANEL), Image.Resampling.NEAREST, color=PAPER, centering=(0, 0))
        sample = data_sample or ClsDataSample()
        truth = as_array(sample.get("gt_label", ())).reshape(-1).tolist() if draw_gt else []
        panels = {" + ".join(map(self.class_name, truth)) or "image": np.asarray(panel)}
        if draw_pred and "pred_score" in sample:
            # The most probable classes from top to bottom, each with name, bar and percentage.
            scores = as_array(sample.pred_score)
            chart = Image.new("RGB", (_PANEL, _PANEL), PAPER)
            draw = ImageDraw.Draw(chart)
            for row, label in enumerate(np.argsort(-scores, kind="stable")[: self.topk].tolist()):
                top = 12 + row * (_PANEL - 12) / self.topk
                right = 8 + max(1, scores[label] * (_PANEL - 70))
                name, percentage = self.class_name(label), f"{100 * scores[label]:.1f}"
                draw.text((8, top), name, fill=INK, font=text_font(15, name))
                draw.rectangle((8, top + 20, right, top + 32), fill=BLUE if label in truth else ORANGE)
                draw.text((right + 6, top + 18), percentage, fill=INK, font=text_font(13, percentage))
            panels["prediction"] = np.asarray(chart)
        return arrange_panels(panels, None, **origin_of_image(data_sample))


@HOOKS.register_module()
class ClsVisualizationHook(BaseVisualizationHook):
    """Draws predictions for every `interval`-th batch, and the confusion matrix if the evaluator has a ConfusionMatrix.

    Also draws the 8 images whose true class scores least compared with the predicted class.

    Args:
        draw: Whether to enable drawing.
        only_wrong: Whether to draw only misclassified images. Images without ground truth are then not drawn. If
            `max_samples` limits their number, they are spread over the true classes in the batch.
        settings: Additional arguments for `BaseVisualizationHook`, such as `interval` (50 by default).

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive.
    """

    fields = ("gt_label", "pred_score")

    def __init__(self, draw: bool = True, *args: Any, only_wrong: bool = False, **settings: Any) -> None:
        super().__init__(draw, *args, **settings)
        self.only_wrong = only_wrong

    def choose(self, outputs: Sequence[ClsDataSample]) -> Iterable[tuple[int, ClsDataSample]]:
        """Returns (index, prediction) pairs for the images to draw: all, or wrong ones with their classes in turn."""
        if not self.only_wrong:
            return enumerate(outputs)
        counts = Counter[tuple[int, ...]]()  # of the wrong samples, by their true classes
        wrong = []
        for position, sample in enumerate(outputs):
            truth = tuple(as_array(sample.get("gt_label", ())).tolist())
            if truth and predicted_label(sample.to_dict()) not in truth:
                wrong.append((counts[truth], position, sample))
                counts[truth] += 1
        return [(position, sample) for _, position, sample in sorted(wrong)]

    def error(self, sample: ClsDataSample) -> tuple[float, str]:
        """Returns by how much the highest score of another class exceeds the lowest score of a true class."""
        scores, truth = as_array(sample.pred_score), as_array(sample.gt_label).reshape(-1)
        others = np.delete(scores, truth)
        if not len(others) or not len(truth):
            return 0.0, ""
        true, highest = scores[truth].min(), others.max()
        return float(highest - true), f"score {true:.3f} of the true class, {highest:.3f} of another"

    def after_val_epoch(self, runner: Run, metrics: dict[str, Any] | None = None) -> None:
        """Draws the worst images, and the confusion matrix if the metrics contain one and `draw` is set."""
        super().after_val_epoch(runner, metrics)
        self._draw_matrix(runner, metrics, "val")

    def after_test_epoch(self, runner: Run, metrics: dict[str, Any] | None = None) -> None:
        """Draws the worst images, and the confusion matrix if the metrics contain one and `draw` is set."""
        super().after_test_epoch(runner, metrics)
        self._draw_matrix(runner, metrics, "test")

    def _draw_matrix(self, runner: Run, metrics: Mapping[str, Any] | None, mode: str) -> None:
        for name, value in (metrics or {}).items():
            if self.draw and name.endswith("confusion_matrix/result"):
                title = "_".join([mode, *name.split("/")[:-2], "confusion_matrix"])  # with the name of the dataset
                with skipping_failed_image(title):
                    classes = class_names(self._visualizer.dataset_meta, len(value))
                    self._visualizer.add_image(title, ConfusionMatrix.plot(value, classes=classes), runner.iter)
