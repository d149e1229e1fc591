import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.config import Config
from footplate.errors import ArgumentError, FootplateError
from footplate.records import BaseVisBackend
from footplate.registry import VISUALIZERS
from footplate.visualization import Visualizer

IMAGE = np.full((6, 8, 3), 40, np.uint8)
LOCAL = {"type": "LocalVisBackend"}


class Writer(BaseVisBackend):
    """Records the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def add_image(self, name: str, image: Any, step: int = 0, **kwargs: Any) -> None:
        self.calls.append((name, image.shape, step))

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        self.calls.append((model, data_batch))

    def close(self) -> None:
        self.calls.append(("closed",))


def test_scalars_config_and_images_are_written_locally(tmp_path: Path) -> None:
    visualizer = VISUALIZERS.build({"type": "Visualizer", "vis_backends": [LOCAL], "save_dir": str(tmp_path)})
    visualizer.add_config(Config({"lr": 0.5}))
    visualizer.add_scalar("loss", 1.5, step=2)
    visualizer.add_scalars({"loss": 0.5, "lr": 0.1}, step=3)
    visualizer.add_image("scene", IMAGE, step=4)
    data = tmp_path / "vis_data"
    lines = [json.loads(line) for line in (data / "scalars.json").read_text().splitlines()]
    assert lines == [{"loss": 1.5, "step": 2}, {"loss": 0.5, "lr": 0.1, "step": 3}]
    assert "0.5" in (data / "config.py").read_text()
    with Image.open(data / "vis_image" / "scene_4.png") as image:
        assert (np.asarray(image) == IMAGE).all()


def test_every_writer_is_called() -> None:
    writer = Writer()
    visualizer = Visualizer(vis_backends=[writer])
    visualizer.add_datasample("scene", IMAGE, step=7)
    visualizer.add_graph("model", "batch")
    visualizer.close()
    assert writer.calls == [("scene", (6, 8, 3), 7), ("model", "batch"), ("closed",)]


def test_a_sample_may_be_saved_to_a_file(tmp_path: Path) -> None:
    writer = Writer()
    path = tmp_path / "new" / "scene.png"
    Visualizer(vis_backends=[writer]).add_datasample("scene", IMAGE, out_file=str(path))
    with Image.open(path) as image:
        assert (np.asarray(image) == IMAGE).all()
    assert writer.calls == []


def test_showing_without_a_display_warns_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    visualizer = Visualizer()
    with caplog.at_level(logging.WARNING, logger="footplate"):
        for _ in range(2):
            visualizer.add_datasample("scene", IMAGE, show=True)
    assert [record.message for record in caplog.records] == ["Images cannot be shown, because there is no display."]


def test_an_image_is_shown_for_the_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(Image.Image, "show", lambda self, title: seen.append((self.size, title)))
    monkeypatch.setattr("time.sleep", seen.append)
    Visualizer(image=IMAGE).show(win_name="scene", wait_time=2)
    assert seen == [((8, 6), "scene"), 2]


def test_the_latest_visualizer_is_the_current_instance() -> None:
    first, second = Visualizer("a"), Visualizer("b")
    assert Visualizer.get_current_instance() is second
    assert Visualizer.get_instance("a") is first


def test_writers_are_found_by_class_or_name(tmp_path: Path) -> None:
    backends = [LOCAL, {**LOCAL, "name": "second", "save_dir": str(tmp_path / "b")}]
    visualizer = Visualizer(vis_backends=backends, save_dir=str(tmp_path))
    visualizer.get_backend("second").add_scalar("x", 1)
    assert (tmp_path / "b" / "scalars.json").exists()
    assert type(visualizer.get_backend("LocalVisBackend")).__name__ == "LocalVisBackend"
    with pytest.raises(ArgumentError, match="there is no writer 'third'"):
        visualizer.get_backend("third")


@pytest.mark.parametrize(
    ("backends", "message"),
    [
        ([LOCAL, LOCAL], r"two backends have the name 'LocalVisBackend'\s+key vis_backends\[1\]"),
        ([{"type": "LocalVisBakend"}], "did you mean 'LocalVisBackend'"),
        ([{"type": "LocalVisBackend", "img_dir": "x"}], "img_dir"),
    ],
)
def test_invalid_writers_are_refused(backends: list[Any], message: str) -> None:
    with pytest.raises(FootplateError, match=message):
        Visualizer(vis_backends=backends)


TRAINING = """
import sys
from footplate import Runner
from tests.support import settings
images = {"type": "NaiveVisualizationHook"}
Runner(**settings(sys.argv[1], custom_hooks=[images, {"type": "CurveHook"}])).train()
print([name for name in ("matplotlib", "cv2", "tkinter", "plotly") if name in sys.modules])
"""


def test_training_imports_no_plotting_library(tmp_path: Path) -> None:
    for name in ("matplotlib", "cv2", "tkinter", "plotly"):  # would be imported if a library tried to
        (tmp_path / f"{name}.py").write_text("")
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert list((tmp_path / "run").glob("*/curves.png"))
