"""A hook that draws label maps during validation and test."""

from footplate.registry import HOOKS
from footplate.tasks.picture_hook import BaseVisualizationHook


@HOOKS.register_module()
class SegVisualizationHook(BaseVisualizationHook):
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

    Source: the hooks page of the MMSegmentation documentation, "SegVisualizationHook".
    """
