import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.errors import ArgumentError
from footplate.records import LAYOUT_TEXT, BaseVisBackend
from footplate.registry import VISUALIZERS
from footplate.visualization import Visualizer, build_visualizer, draw_featmap
from footplate_vision.panels import arrange_panels

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


def test_panels_are_stored_with_their_layout(tmp_path: Path) -> None:
    visualizer = VISUALIZERS.build({"type": "Visualizer", "vis_backends": [LOCAL], "save_dir": str(tmp_path)})
    visualizer.add_image("val", arrange_panels({"truth": IMAGE}), 1)
    (path,) = tmp_path.rglob("val_1.png")
    with Image.open(path) as image:
        assert [panel[0] for panel in json.loads(image.info[LAYOUT_TEXT])["panels"]] == ["truth"]


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_images_of_all_accepted_shapes_are_stored(tmp_path: Path, channels: tuple[int, ...]) -> None:
    visualizer = VISUALIZERS.build({"type": "Visualizer", "vis_backends": [LOCAL], "save_dir": str(tmp_path)})
    visualizer.add_image("val", np.zeros((6, 8, *channels), np.uint8), 1)
    assert list(tmp_path.rglob("val_1.png"))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_images_of_other_types_need_writers_that_accept_them(dtype: Any) -> None:
    image = np.zeros((6, 8, 3), dtype)
    writer = Writer()
    Visualizer(vis_backends=[writer]).add_image("val", image, 1)
    assert writer.calls == [("val", (6, 8, 3), 1)]
    with pytest.raises(ArgumentError, match="an image must be a uint8 array"):
        Visualizer(vis_backends=[writer, LOCAL]).add_image("val", image, 1)


def test_images_may_be_next_to_the_scalars(tmp_path: Path) -> None:
    visualizer = Visualizer(vis_backends=[{**LOCAL, "img_save_dir": ""}], save_dir=str(tmp_path))
    visualizer.add_image("val", IMAGE, 1)
    visualizer.add_scalar("loss", 1.0, 1)
    (image,), (scalars,) = tmp_path.rglob("val_1.png"), tmp_path.rglob("scalars.json")
    assert image.parent == scalars.parent


class Fragile(Visualizer):
    """Fails to draw one of the images, as the visualizer of a code base may."""

    visualize_masks = False

    def add_datasample(self, name: str, image: Any, *args: Any, **settings: Any) -> None:
        if name == "bad":
            raise TypeError("coordinate list")
        super().add_datasample(name, image, *args, **settings)

    def visualize_cls(self, image: Any, data_sample: Any) -> None:
        raise ZeroDivisionError


def test_a_failed_drawing_costs_a_run_only_its_image(caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer()
    visualizer = Fragile(vis_backends=[writer])
    with pytest.raises(TypeError, match="coordinate list"):
        visualizer.add_datasample("bad", IMAGE)
    build_visualizer(visualizer, name="run", work_dir="", log_dir="")
    for name in ("good", "bad", "better"):
        visualizer.add_datasample(name, IMAGE)
    visualizer.visualize_cls(IMAGE, None)
    assert not visualizer.visualize_masks
    assert [name for name, *_ in writer.calls] == ["good", "better"]
    assert caplog.messages == [
        "The image 'bad' cannot be drawn and is skipped: TypeError: coordinate list",
        "The image 'visualize_cls' cannot be drawn and is skipped: ZeroDivisionError: ",
    ]


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
    assert [record.message for record in caplog.records] == ["Cannot show images, because there is no display."]


def test_writers_are_found_by_class_or_name(tmp_path: Path) -> None:
    backends = [LOCAL, {**LOCAL, "name": "second", "save_dir": str(tmp_path / "b")}]
    visualizer = Visualizer(vis_backends=backends, save_dir=str(tmp_path))
    visualizer.get_backend("second").add_scalar("x", 1)
    assert (tmp_path / "b" / "scalars.json").exists()
    assert type(visualizer.get_backend("LocalVisBackend")).__name__ == "LocalVisBackend"


BLUE, GREEN, RED = [0, 0, 127], [124, 255, 121], [127, 0, 0]


def ramp() -> Any:
    """Three channels of 1 x 3: one from low to high, one from high to low with a larger mean, one of nothing."""
    return torch.tensor([[[0.0, 1.0, 2.0]], [[9.0, 3.0, 0.0]], [[0.0, 0.0, 0.0]]])


@pytest.mark.parametrize(
    ("reduction", "first", "last"), [("squeeze_mean", BLUE, RED), ("select_max", RED, BLUE), (None, RED, BLUE)]
)
def test_channels_are_reduced(reduction: Any, first: list[int], last: list[int]) -> None:
    channels = ramp()[:2] * torch.tensor([[[10.0]], [[1.1]]]) if reduction == "squeeze_mean" else ramp()
    image = draw_featmap(channels, channel_reduction=reduction, topk=1, arrangement=(1, 1))
    assert (image.shape, image[0, 0].tolist(), image[0, 2].tolist()) == ((1, 3, 3), first, last)


def test_the_strongest_channels_are_arranged_in_a_grid() -> None:
    image = draw_featmap(ramp(), channel_reduction=None, topk=-1, arrangement=(2, 2))
    assert image.shape == (2, 6, 3)
    assert [image[0, 0].tolist(), image[0, 3].tolist()] == [RED, BLUE]
    assert (image[1, 3:] == 255).all()


def test_the_map_is_blended_with_an_image() -> None:
    image = np.full((4, 6), 100, np.uint8)
    alone = draw_featmap(ramp()[1:2], resize_shape=(4, 6))
    over = Visualizer("heat").draw_featmap(ramp()[1:2], image, alpha=0.25)
    assert over.shape == alone.shape == (4, 6, 3)
    assert np.abs(over - (0.75 * 100 + 0.25 * alone)).max() <= 1
    assert (draw_featmap(ramp()[1:2], image, alpha=1) == alone).all()
    assert draw_featmap(ramp()[1:2], image, resize_shape=(8, 3)).shape == (8, 3, 3)
