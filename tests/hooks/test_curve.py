from pathlib import Path

import numpy as np
from PIL import Image

from footplate import Runner
from footplate.hooks import CurveHook
from tests.support import settings


def test_curves_are_drawn_at_the_end(tmp_path: Path) -> None:
    hooks = {"checkpoint": None, "logger": {"interval": 1}}
    runner = Runner(**settings(tmp_path, default_hooks=hooks, custom_hooks=[CurveHook("loss.png")]))
    runner.train()
    with Image.open(Path(runner.log_dir, "loss.png")) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) >= 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_without_scalars_there_is_nothing_to_draw(tmp_path: Path) -> None:
    hooks = {"checkpoint": None, "logger": None}
    runner = Runner(**settings(tmp_path, default_hooks=hooks, custom_hooks=[CurveHook()]))
    runner.train()
    assert not Path(runner.log_dir, "curves.png").exists()
