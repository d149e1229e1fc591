import re
from pathlib import Path

import numpy as np
import pytest

import footplate
from footplate.visualization.curve_plots import plot


def test_plotting_library_is_loaded_late() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(footplate.__file__).parent.rglob("*.py")]
    assert not [text for text in texts if re.search(r"^(import|from) (matplotlib|cv2)", text, re.MULTILINE)]


@pytest.mark.parametrize(
    "points",
    [
        [(5, 1.0)],
        [(0, -1.7e308), (9, 1.7e308)],
        [(0, 0.0), (9, 5e-324)],
    ],
)
def test_curves_without_extent_or_beyond_limits_are_drawn(points: list[tuple[float, float]]) -> None:
    image = plot({"loss": {"loss": points}}, "step")
    away = np.abs(np.asarray(image).astype(int) - (0, 114, 178)).sum(axis=2)
    assert (away < 8).sum() > 5
