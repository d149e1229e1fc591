"""A hook that draws detections during validation and test."""

import os
from typing import TYPE_CHECKING, Any

from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.storage import check_output_path, output_path
from footplate.tasks.detection.visualizer import DetLocalVisualizer
from footplate.tasks.picture_hook import BaseVisualizationHook

if TYPE_CHECKING:
    from footplate.engine import Runner


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
            raise ArgumentError("score_thr lies between 0 and 1", key="score_thr", found=score_thr)
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
