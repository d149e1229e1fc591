"""Passes test images and predictions to the visualizer, whatever the task."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.checks import check_count
from footplate.data.structures import BaseDataElement
from footplate.engine import Hook
from footplate.registry import HOOKS
from footplate.visualization import picture_of

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class NaiveVisualizationHook(Hook):
    """Draws every `interval`-th batch of a test with the visualizer's `add_datasample`.

    The image is the file at a sample's `img_path` or, without one, the input from the loader.

    Args:
        interval: The number of batches between two drawn ones.
        draw_gt: Whether to draw the ground truth.
        draw_pred: Whether to draw the prediction.

    Raises:
        ArgumentError: `interval` is no positive whole number.
    """

    priority = "LOWEST"

    def __init__(self, interval: int = 1, draw_gt: bool = True, draw_pred: bool = True) -> None:
        self.interval = check_count("interval", interval)
        self.draw_gt, self.draw_pred = draw_gt, draw_pred

    def after_test_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draws each sample of the batch."""
        if not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for position, output in enumerate(outputs or ()):
            meta = output.metainfo if isinstance(output, BaseDataElement) else {}
            path = meta.get("img_path")
            picture = picture_of(path, data_batch, position)
            if picture is None:
                runner.logger.warning("NaiveVisualizationHook finds no picture in a batch of type %s", type(data_batch))
                return
            name = os.path.splitext(os.path.basename(path))[0] if path else f"{batch_idx}_{position}"
            runner.visualizer.add_datasample(
                f"test_{name}", picture, output, draw_gt=self.draw_gt, draw_pred=self.draw_pred, step=runner.iter
            )
