"""Draws the curves of a run when it ends."""

import os
from typing import TYPE_CHECKING

from footplate.distributed import is_main_process
from footplate.engine import Hook
from footplate.errors import DataError
from footplate.hooks.logger import LoggerHook
from footplate.records import NOT_SHOWN, length_of
from footplate.registry import HOOKS
from footplate.storage import check_output_path, output_path
from footplate.visualization import draw_curves

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class CurveHook(Hook):
    """Draws losses and metrics over the run to `<timestamp>/<filename>`, after the last iteration.

    Args:
        filename: The name of the image file, a PNG.
    """

    priority = "LOWEST"

    def __init__(self, filename: str = "curves.png") -> None:
        self.filename = check_output_path(filename, key="filename")

    def after_train(self, runner: "Runner") -> None:
        """Draws the scalars that the local backend has written. Without that backend it does nothing."""
        scalars = os.path.join(runner.log_dir, "vis_data", "scalars.json")
        if is_main_process() and os.path.exists(scalars):
            path = output_path(runner.log_dir, self.filename)
            try:
                draw_curves(scalars, path, epoch_length=_epoch_length(runner))
            except (DataError, OSError) as error:
                # A run must not fail because of an image: there may be nothing to draw, or no disk space.
                runner.logger.warning("no curves are drawn: %s", error)
                return
            runner.logger.info("curves: %s", path, extra=NOT_SHOWN)


def _epoch_length(runner: "Runner") -> int:
    """Returns the number of iterations per step of the validation metrics: 1 if the steps are iterations."""
    by_epoch = any(isinstance(hook, LoggerHook) and hook.log_metric_by_epoch for hook in runner.hooks)
    return (length_of(runner.train_dataloader) or 1) if by_epoch and runner.by_epoch else 1
