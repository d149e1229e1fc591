"""Draws predictions while validating and testing."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.engine import Hook
from footplate.errors import check_count
from footplate.registry import HOOKS
from footplate.tasks.pictures import picture_of
from footplate.tasks.segmentation.sample import SegDataSample
from footplate.visualization import Visualizer

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class SegVisualizationHook(Hook):
    """Draws image, truth and prediction of every `interval`-th batch of a validation or test.

    Args:
        draw: Whether to draw at all.
        interval: How many batches lie between two that are drawn.
        show: Also show the pictures on the screen.
        wait_time: For how many seconds at least.
        max_samples: The most pictures of one batch; None draws all.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive.

    Source: the hooks page of the MMSegmentation documentation, "SegVisualizationHook".
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        *,
        max_samples: int | None = None,
    ) -> None:
        for name, value in (("interval", interval), ("max_samples", max_samples)):
            if value is not None:
                check_count(name, value)
        self.draw = draw
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self.max_samples = max_samples

    @property
    def _visualizer(self) -> Visualizer:
        return Visualizer.get_current_instance()

    def _after_iter(
        self,
        runner: "Runner",
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[SegDataSample] | None = None,
        mode: str = "val",
    ) -> None:
        if not self.draw or mode == "train" or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        chosen = getattr(getattr(runner, f"{mode}_loop", None), "current", "")  # of several sets
        prefix = f"{mode}_{chosen}" if chosen else mode
        for position, output in enumerate((outputs or ())[: self.max_samples]):
            name = os.path.splitext(os.path.basename(output.get("img_path", f"{batch_idx}_{position}")))[0]
            self._visualizer.add_datasample(
                f"{prefix}_{name}",
                picture_of(output, data_batch, position),
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
            )
