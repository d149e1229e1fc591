"""Draws predictions while validating and testing."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.engine import Hook
from footplate.errors import ArgumentError, check_count
from footplate.registry import HOOKS
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.detection.visualizer import DetLocalVisualizer
from footplate.tasks.pictures import picture_of
from footplate.visualization import Visualizer

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class DetVisualizationHook(Hook):
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
        if not 0 <= score_thr <= 1:
            raise ArgumentError("score_thr lies between 0 and 1", key="score_thr", found=score_thr)
        self.draw = draw
        self.interval = check_count("interval", interval)
        self.score_thr = score_thr
        self.show = show
        self.wait_time = wait_time
        self.test_out_dir = test_out_dir
        self.max_samples = max_samples if max_samples is None else check_count("max_samples", max_samples)

    @property
    def _visualizer(self) -> Visualizer:
        return Visualizer.get_current_instance()

    def _after_iter(
        self,
        runner: "Runner",
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DetDataSample] | None = None,
        mode: str = "val",
    ) -> None:
        if not self.draw or mode == "train" or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        visualizer = self._visualizer
        threshold: dict[str, Any] = {}
        if isinstance(visualizer, DetLocalVisualizer):
            threshold["pred_score_thr"] = self.score_thr
        for position, output in enumerate((outputs or ())[: self.max_samples]):
            name = os.path.splitext(os.path.basename(output.get("img_path", f"{batch_idx}_{position}")))[0]
            visualizer.add_datasample(
                f"{mode}_{name}",
                picture_of(output, data_batch, position),
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                out_file=self._out_file(runner, mode, name),
                step=runner.iter,
                **threshold,
            )

    def _out_file(self, runner: "Runner", mode: str, name: str) -> str | None:
        if self.test_out_dir is None or mode != "test":
            return None
        return os.path.join(runner.log_dir, self.test_out_dir, f"{name}.png")
