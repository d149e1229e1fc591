"""Draws boxes while validating and testing."""

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
    """Draws image, truth and prediction of every `interval`-th batch of a validation or test.

    Args:
        draw: Whether to draw at all.
        interval: How many batches lie between two that are drawn.
        score_thr: Only predictions that are at least as sure are drawn.
        show: Also show the pictures on the screen.
        wait_time: For how many seconds at least.
        test_out_dir: A folder in that of the run, for pictures of a test, which writers then do not get.
        backend_args: Accepted for configs that set it.
        max_samples: The most pictures of one batch; None draws all.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive, or `score_thr` lies outside of 0 to 1.
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
        """Returns how sure a prediction has to be, and where the picture of a test goes."""
        found: dict[str, Any] = {"out_file": None}
        if self.test_out_dir is not None and mode == "test":
            found["out_file"] = os.path.join(output_path(runner.log_dir, self.test_out_dir), f"{name}.png")
        if isinstance(self._visualizer, DetLocalVisualizer):
            found["pred_score_thr"] = self.score_thr
        return found
