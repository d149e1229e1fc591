"""Adds members of MMEngine's Visualizer to footplate's Visualizer, for code written for MMEngine."""

from typing import Any

import numpy as np

from footplate.visualization import Visualizer


class VisualizerMembers(Visualizer):
    """The members that `add_members` adds to `Visualizer`."""

    def _is_posion_valid(self, position: Any) -> bool:
        """Checks whether all points, an array of shape `(..., 2)`, are inside the image. Subclasses call it."""
        points = np.asarray(position)
        return bool(((points >= 0) & (points < self._drawn.size)).all())
