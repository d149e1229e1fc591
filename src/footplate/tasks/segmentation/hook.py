"""Draws label maps while validating and testing."""

from footplate.registry import HOOKS
from footplate.tasks.picture_hook import BaseVisualizationHook


@HOOKS.register_module()
class SegVisualizationHook(BaseVisualizationHook):
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

    Source: the hooks page of the MMSegmentation documentation, "SegVisualizationHook".
    """
