"""Drawing predictions while validating and testing: what the tasks' hooks share."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from footplate.checks import check_count
from footplate.engine import Hook
from footplate.records import length_of
from footplate.storage import read_bytes
from footplate.structures import BaseDataElement
from footplate.tasks.pictures import picture_of
from footplate.visualization import Visualizer

if TYPE_CHECKING:
    from footplate.engine import Runner

_logger = logging.getLogger("footplate.tasks")


class BaseVisualizationHook(Hook):
    """Draws image, truth and prediction of every `interval`-th batch of a validation or test.

    Args:
        draw: Whether to draw at all.
        interval: How many batches lie between two that are drawn.
        show: Also show the pictures on the screen.
        wait_time: For how many seconds at least.
        backend_args: Accepted for configs that set it; a URL says where a file lies.
        file_client_args: The same.
        max_samples: The most pictures of one batch; None draws all.

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
        self._looked_at: set[str] = set()

    def before_train(self, runner: "Runner") -> None:
        """Warns where a validation has too few batches for a picture."""
        self._name_too_small(runner, "val")

    def before_val(self, runner: "Runner") -> None:
        """Warns of it where nothing is trained."""
        self._name_too_small(runner, "val")

    def before_test(self, runner: "Runner") -> None:
        """Warns where a test has too few batches for a picture."""
        self._name_too_small(runner, "test")

    @property
    def _visualizer(self) -> Visualizer:
        return self._set_visualizer or Visualizer.get_current_instance()

    @_visualizer.setter
    def _visualizer(self, visualizer: Visualizer) -> None:  # as hooks that are derived from the field's do
        self._set_visualizer = visualizer

    @property
    def file_client(self) -> Any:
        """What hooks that are derived from the field's read files with: `file_client.get(path)` gives the bytes."""
        return SimpleNamespace(get=read_bytes)

    def choose(self, outputs: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        """Yields the predictions of a batch that are worth a picture, with their places; a hook may leave some out."""
        return enumerate(outputs)

    def options(self, runner: "Runner", mode: str, name: str) -> dict[str, Any]:
        """Returns further arguments of the visualizer's `add_datasample` for one picture."""
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
        current = getattr(getattr(runner, f"{mode}_loop", None), "current", "")  # of several sets
        prefix = f"{mode}_{current}" if current else mode
        for position, output in list(self.choose(outputs or ()))[: self.max_samples]:
            name = _name_of(output, f"{batch_idx}_{position}")
            self._visualizer.add_datasample(
                f"{prefix}_{name}",
                picture_of(output, data_batch, position),
                data_sample=output,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
                **self.options(runner, mode, name),
            )

    def _name_too_small(self, runner: "Runner", mode: str) -> None:
        """Says once of which sets no picture will ever be drawn."""
        if not self.draw or mode in self._looked_at:
            return
        self._looked_at.add(mode)
        loop = getattr(runner, f"{mode}_loop", None)
        for name, batches in _sizes_of(loop):
            if batches and batches < self.interval:
                of = f" of '{name}'" if name else ""
                _logger.warning(
                    "%s: interval %d, but a %s%s has %d batch%s: no pictures",
                    type(self).__name__,
                    self.interval,
                    {"val": "validation"}.get(mode, mode),
                    of,
                    batches,
                    "es" if batches > 1 else "",
                )


def _sizes_of(loop: Any) -> Iterator[tuple[str, int | None]]:
    """Yields the sets of a validation or test with their batches; a loop of the user's own has one."""
    for each in getattr(loop, "sets", (loop,)):
        yield getattr(each, "name", ""), length_of(getattr(each, "dataloader", None))


def _name_of(output: BaseDataElement, otherwise: str) -> str:
    return os.path.splitext(os.path.basename(str(output.get("img_path", otherwise))))[0]
