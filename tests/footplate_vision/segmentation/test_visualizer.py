import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.visualization import Visualizer
from footplate_vision.segmentation import SegDataSample, SegLocalVisualizer, SegVisualizationHook
from footplate_vision.structures import PixelData
from tests.footplate_vision.recording import RUNNER, Recorder, pixels_of

GREY = np.full((64, 64, 3), 100, np.uint8)
PALETTE = [(10, 10, 10), (250, 0, 0), (0, 0, 250)]


def sample(**maps: int) -> SegDataSample:
    """Returns label maps of class 0 with a different class in the left half."""
    found = SegDataSample()
    for name, value in maps.items():
        classes = torch.zeros(64, 64, dtype=torch.int64)
        classes[:, :32] = value
        setattr(found, name, PixelData(data=classes))
    return found


def rendered(data_sample: SegDataSample | None, **arguments: Any) -> Any:
    visualizer = SegLocalVisualizer(classes=["ground", "shoe", "bag"], palette=PALETTE, alpha=1.0)
    return visualizer.render(GREY, data_sample, **arguments)


def test_image_truth_prediction_and_errors_are_side_by_side() -> None:
    picture = rendered(sample(gt_sem_seg=1, pred_sem_seg=2))
    panel = 256 * 256
    assert picture.shape[1] == 4 * 256 + 5 * 10
    assert pixels_of(picture, (100, 100, 100)) >= panel
    # Half a panel each, and the square of the legend.
    for color in PALETTE[1:]:
        assert panel / 2 < pixels_of(picture, color) < panel / 2 + 400
    red, blue = ((picture == color).all(axis=2).nonzero()[1] for color in PALETTE[1:])
    assert (np.median(red), np.median(blue)) == (pytest.approx(276 + 64, abs=2), pytest.approx(542 + 64, abs=2))


def test_wrong_pixels_are_red_in_the_error_map() -> None:
    truth = np.zeros((1, 64, 64), np.int64)
    truth[0, :16], truth[0, 48:] = 1, 255  # a quarter of another class, and a quarter that is ignored
    data = SegDataSample(
        gt_sem_seg=PixelData(data=torch.from_numpy(truth)), pred_sem_seg=PixelData(data=torch.zeros(1, 64, 64))
    )
    assert pixels_of(rendered(data), (230, 30, 60)) == 256 * 64


class AsPublished(SegVisualizationHook):
    """Has the signature of MMSegmentation's hook, finds its visualizer and reads images in the same way."""

    def __init__(self, draw: bool = False, interval: int = 50, show: bool = False, wait_time: float = 0.0) -> None:
        super().__init__(draw, interval, show, wait_time, file_client_args={"backend": "disk"}, backend_args=None)
        self._visualizer = Visualizer.get_current_instance()

    def _after_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Any, mode: str = "val") -> None:  # type: ignore[override]
        for output in outputs if self.every_n_inner_iters(batch_idx, self.interval) else ():
            img = np.asarray(Image.open(io.BytesIO(self.file_client.get(output.img_path))))
            self._visualizer.add_datasample(
                mode, img, data_sample=output, show=self.show, wait_time=self.wait_time, step=runner.iter
            )


def test_a_subclass_reads_images_and_keeps_its_visualizer(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(path)
    recorder = Recorder()
    hook = AsPublished(draw=True, interval=2)
    Recorder()  # the current one; the hook keeps the one that it found
    hook.after_val_iter(RUNNER, batch_idx=1, data_batch={}, outputs=[SegDataSample(metainfo={"img_path": str(path)})])
    assert recorder.names == ["val"]
    assert recorder.drawn[0][1][0, 0].tolist() == [9, 8, 7]


def test_the_error_is_the_share_of_wrong_pixels() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[0, :2], truth[0, 6:] = 1, 255
    found = SegDataSample(gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=torch.zeros(1, 8, 8)))
    error, text = SegVisualizationHook().error(found)
    assert error == pytest.approx(1 / 3)
    assert text == "33.3% of the pixels are wrong"


def test_a_title_stands_above_the_panels() -> None:
    titled = sample(gt_sem_seg=1)
    plain = rendered(titled)
    titled.set_metainfo({"title": "a.png: 3% of the pixels are wrong"})
    picture = rendered(titled)
    assert picture.layout["title"] == "a.png: 3% of the pixels are wrong"
    (_, x1, y1, x2, y2), (_, left, top, right, bottom) = plain.layout["panels"][1], picture.layout["panels"][1]
    assert (picture[top:bottom, left:right] == plain[y1:y2, x1:x2]).all()
    assert top > y1
