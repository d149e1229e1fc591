from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from footplate import Runner
from footplate.hooks import CurveHook
from footplate.visualization import curves
from footplate.visualization.plotting import Panel, plot
from tests.support import settings


def test_curves_are_drawn_at_the_end(tmp_path: Path) -> None:
    hooks = {"checkpoint": None, "logger": {"interval": 1}}
    runner = Runner(**settings(tmp_path, default_hooks=hooks, custom_hooks=[CurveHook("loss.png")]))
    runner.train()
    with Image.open(Path(runner.log_dir, "loss.png")) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) >= 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(("by_epoch", "at"), [(True, [4, 8, 12]), (False, [4, 8, 12])])
@pytest.mark.parametrize("metric_by_epoch", [True, False])
def test_validations_stand_at_their_iterations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_epoch: bool, metric_by_epoch: bool, at: list[int]
) -> None:
    drawn: list[Panel] = []

    def kept(panels: list[Panel], label: str) -> Image.Image:
        drawn.extend(panels)
        return plot(panels, label)

    monkeypatch.setattr(curves, "plot", kept)
    hooks = {"checkpoint": None, "logger": {"interval": 1, "log_metric_by_epoch": metric_by_epoch}}
    made = settings(tmp_path, by_epoch=by_epoch, default_hooks=hooks, custom_hooks=[CurveHook()])
    Runner(**made).train()
    found = [[x for x, _ in curve.points] for panel in drawn for curve in panel.curves if curve.label == "accuracy"]
    assert found == [at]


def test_without_scalars_there_is_nothing_to_draw(tmp_path: Path) -> None:
    hooks = {"checkpoint": None, "logger": None}
    runner = Runner(**settings(tmp_path, default_hooks=hooks, custom_hooks=[CurveHook()]))
    runner.train()
    assert not Path(runner.log_dir, "curves.png").exists()
