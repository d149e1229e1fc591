"""The base class of hooks that draw predictions during validation and test."""

import logging
import os
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from footplate.checks import check_count
from footplate.data import length_of
from footplate.engine import Hook
from footplate.errors import DataError
from footplate.storage import read_bytes
from footplate.visualization import Visualizer, sample_image

if TYPE_CHECKING:
    from footplate.engine import Runner

_logger = logging.getLogger("footplate.tasks")


class BaseVisualizationHook(Hook):
    """Draws image, ground truth and prediction of every `interval`-th batch of a validation or test run.

    Args:
        draw: Whether to draw at all.
        interval: Draw every `interval`-th batch.
        show: Whether to also show the images on the screen.
        wait_time: The minimum time to show an image, in seconds.
        backend_args: Ignored; accepted for compatibility.
        file_client_args: Same as above.
        max_samples: The maximum number of images per batch; None draws all.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive.
    """

    _set_visualizer: Visualizer | None = None

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        *,
        backend_args: dict[str, Any] | None = None,
        file_client_args: dict[str, Any] | None = None,
        max_samples: int | None = None,
    ) -> None:
        self.draw = draw
        self.interval = check_count("interval", interval)
        self.show = show
        self.wait_time = wait_time
        self.max_samples = max_samples if max_samples is None else check_count("max_samples", max_samples)
        self._checked: set[str] = set()  # modes

    def before_train(self, runner: "Runner") -> None:
        """Warns if a validation dataset has too few batches for any image to be drawn."""
        self._check_sizes(runner, "val")

    def before_val(self, runner: "Runner") -> None:
        """Warns as `before_train` does, for validation without training."""
        self._check_sizes(runner, "val")

    def before_test(self, runner: "Runner") -> None:
        """Warns if a test dataset has too few batches for any image to be drawn."""
        self._check_sizes(runner, "test")

    @property
    def _visualizer(self) -> Visualizer:
        return self._set_visualizer or Visualizer.get_current_instance()

    @_visualizer.setter
    def _visualizer(self, visualizer: Visualizer) -> None:  # third-party subclasses assign it
        self._set_visualizer = visualizer

    @property
    def file_client(self) -> Any:
        """The file client that third-party subclasses expect: `file_client.get(path)` returns the bytes of a file."""
        return SimpleNamespace(get=read_bytes)

    def choose(self, outputs: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        """Yields the predictions of a batch to draw, each with its position. Subclasses may filter them."""
        return enumerate(outputs)

    def options(self, runner: "Runner", mode: str, name: str) -> dict[str, Any]:
        """Returns additional arguments of the visualizer's `add_datasample` for one image."""
        return {}

    def _after_iter(
        self,
        runner: "Runner",
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
        mode: str = "val",
    ) -> None:
        if not self.draw or mode == "train" or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        current = getattr(getattr(runner, f"{mode}_loop", None), "current", "")  # the name of one of several datasets
        prefix = f"{mode}_{current}" if current else mode
        for position, output in list(self.choose(outputs or ()))[: self.max_samples]:
            path = output.get("img_path")
            name = os.path.splitext(os.path.basename(str(path or f"{batch_idx}_{position}")))[0]
            image = sample_image(path, data_batch, position)
            if image is None:
                raise DataError("the batch contains no image (C, H, W) with 1 or 3 channels", found=type(data_batch))
            self._visualizer.add_datasample(
                f"{prefix}_{name}",
                image,
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
                **self.options(runner, mode, name),
            )

    def _check_sizes(self, runner: "Runner", mode: str) -> None:
        """Warns once about datasets that are too small for any image to be drawn."""
        if not self.draw or mode in self._checked:
            return
        self._checked.add(mode)
        loop = getattr(runner, f"{mode}_loop", None)
        for each in getattr(loop, "sets", (loop,)):  # a custom loop has one dataset
            batches, name = length_of(getattr(each, "dataloader", None)), getattr(each, "name", "")
            if batches and batches < self.interval:
                _logger.warning(
                    "%s draws no images of the %s dataset%s: it has %d batches, fewer than interval=%d.",
                    type(self).__name__,
                    {"val": "validation"}.get(mode, mode),
                    f" '{name}'" if name else "",
                    batches,
                    self.interval,
                )
