from typing import Any

import numpy as np
import pytest

import footplate_openmmlab as openmmlab
from footplate.visualization import Visualizer


@pytest.mark.parametrize(("points", "inside"), [([[0, 0], [7, 5]], True), ([[8, 5]], False), ([[[0, -1]]], False)])
def test_code_written_for_mmengine_may_ask_whether_points_are_in_the_image(points: Any, inside: bool) -> None:
    openmmlab.install()
    visualizer: Any = Visualizer(image=np.zeros((6, 8, 3), np.uint8))
    assert visualizer._is_posion_valid(np.array(points)) is inside
