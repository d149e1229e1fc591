"""A hook that draws predictions during validation and test, and the confusion matrix afterwards."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from footplate.registry import HOOKS
from footplate.tasks.classification.matrix_picture import draw_matrix
from footplate.tasks.classification.sample import ClsDataSample
from footplate.tasks.picture_hook import BaseVisualizationHook
from footplate.visualization import as_array

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class ClsVisualizationHook(BaseVisualizationHook):
    """Draws predictions of every `interval`-th batch of a validation or test run, and the confusion matrix.

    Args:
        draw: Whether to draw at all.
        interval: Draw every `interval`-th batch.
        show: Whether to also show the images on the screen.
        wait_time: The minimum time to show an image, in seconds.
        max_samples: The maximum number of images per batch; None draws all.
        only_wrong: Whether to draw only misclassified images.

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
        super().__init__(draw, interval, show, wait_time, max_samples=max_samples)
        self.only_wrong = only_wrong

    def choose(self, outputs: Sequence[ClsDataSample]) -> Iterable[tuple[int, ClsDataSample]]:
        """Returns all predictions, or only the wrong ones."""
        return [each for each in enumerate(outputs) if not self.only_wrong or _is_wrong(each[1])]

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Draws the confusion matrix."""
        self._draw_matrix(runner, metrics, "val")

    def after_test_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Draws the confusion matrix."""
        self._draw_matrix(runner, metrics, "test")

    def _draw_matrix(self, runner: "Runner", metrics: Mapping[str, Any] | None, mode: str) -> None:
        for name, value in (metrics or {}).items():
            if self.draw and name.endswith("confusion_matrix/result"):
                picture = draw_matrix(as_array(value), self._visualizer.dataset_meta.get("classes"))
                self._visualizer.add_image(f"{mode}_confusion_matrix", picture, runner.iter)


def _is_wrong(sample: ClsDataSample) -> bool:
    return sample.pred_label[0].item() not in sample.gt_label.tolist() if "gt_label" in sample else False
