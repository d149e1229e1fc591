"""Draws predictions while validating and testing, and the confusion matrix afterwards."""

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
from footplate.tasks.classification.matrix_picture import draw_matrix
from footplate.tasks.classification.sample import ClsDataSample
from footplate.visualization import Visualizer, as_array

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class ClsVisualizationHook(Hook):
    """Draws pictures of every `interval`-th batch of a validation or test, and the matrix that ConfusionMatrix gives.

    Args:
        draw: Whether to draw at all.
        interval: How many batches lie between two that are drawn.
        show: Also show the pictures on the screen.
        wait_time: For how many seconds at least.
        max_samples: The most pictures of one batch; None draws all.
        only_wrong: Draw pictures alone whose class is not predicted.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive.
    """

    def __init__(
        self,
        draw: bool = True,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        *,
        max_samples: int | None = None,
        only_wrong: bool = False,
    ) -> None:
        for name, value in (("interval", interval), ("max_samples", max_samples)):
            if value is not None:
                check_count(name, value)
        self.draw = draw
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self.max_samples = max_samples
        self.only_wrong = only_wrong

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Draws the confusion matrix."""
        self._draw_matrix(runner, metrics, "val")

    def after_test_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Draws the confusion matrix."""
        self._draw_matrix(runner, metrics, "test")

    def _after_iter(
        self,
        runner: "Runner",
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[ClsDataSample] | None = None,
        mode: str = "val",
    ) -> None:
        if not self.draw or mode == "train" or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        chosen = [each for each in enumerate(outputs or ()) if not self.only_wrong or _is_wrong(each[1])]
        for position, output in chosen[: self.max_samples]:
            name = os.path.splitext(os.path.basename(output.get("img_path", f"{batch_idx}_{position}")))[0]
            Visualizer.get_current_instance().add_datasample(
                f"{mode}_{name}",
                _picture_of(output, data_batch, position),
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
            )

    def _draw_matrix(self, runner: "Runner", metrics: Mapping[str, Any] | None, mode: str) -> None:
        for name, value in (metrics or {}).items():
            if self.draw and name.endswith("confusion_matrix/result"):
                visualizer = Visualizer.get_current_instance()
                picture = draw_matrix(as_array(value), visualizer.dataset_meta.get("classes"))
                visualizer.add_image(f"{mode}_confusion_matrix", picture, runner.iter)


def _is_wrong(sample: ClsDataSample) -> bool:
    return sample.pred_label[0].item() not in sample.gt_label.tolist() if "gt_label" in sample else False


def _picture_of(output: ClsDataSample, data_batch: Any, position: int) -> npt.NDArray[np.uint8]:
    """The picture as it lies on disk; of one that was made in memory, what the model was given."""
    path = output.get("img_path")
    if path is not None and exists(path):
        with open_file(path) as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    inputs = data_batch["inputs"] if isinstance(data_batch, Mapping) else data_batch[0]
    planes = as_array(inputs[position])
    return np.ascontiguousarray(
        planes.transpose(1, 2, 0).squeeze(-1) if len(planes) == 1 else planes.transpose(1, 2, 0)
    )
