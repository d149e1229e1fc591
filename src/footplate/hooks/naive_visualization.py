"""Hands pictures of a test and what was predicted to the visualizer, whatever the task."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.engine import Hook
from footplate.errors import check_count
from footplate.registry import HOOKS
from footplate.storage import exists, open_file
from footplate.structures import BaseDataElement
from footplate.visualization import as_array

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class NaiveVisualizationHook(Hook):
    """Draws every `interval`-th batch of a test with the visualizer's `add_datasample`.

    The picture is the file that a sample's `img_path` names; without one, what the loader gave.

    Args:
        interval: How many batches lie between two that are drawn.
        draw_gt: Draw the truth.
        draw_pred: Draw the prediction.

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


def picture_of(path: str | None, data_batch: Any, position: int) -> npt.NDArray[np.uint8] | None:
    """Returns the picture of a sample, ``(H, W, 3)``, RGB; None where there is none.

    Args:
        path: Its file; of a picture that was composed in memory there is none.
        data_batch: What the loader gave: a dict with `inputs`, or a sequence that begins with them, each ``(C, H, W)``
            with values from 0 to 255.
        position: Which one of the batch.
    """
    if path is not None and exists(path):
        with open_file(path) as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    inputs = data_batch.get("inputs") if isinstance(data_batch, Mapping) else data_batch[0] if data_batch else None
    if inputs is None:
        return None
    planes = as_array(inputs[position])
    if planes.ndim != 3 or planes.shape[0] not in (1, 3):
        return None
    planes = np.repeat(planes, 3 // planes.shape[0], axis=0)
    return np.ascontiguousarray(planes.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)
