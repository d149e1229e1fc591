from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from footplate import Runner
from footplate.data.data_element import BaseDataElement
from footplate_vision.visualization import BaseVisualizationHook, sample_image
from tests.footplate_vision.recording import RUNNER, Recorder, batch
from tests.support import loader, settings


@pytest.mark.parametrize(
    ("event", "arguments", "expected"),
    [
        ("after_val_iter", {"interval": 2}, ["val_00", "val_01"] * 2),
        ("after_val_iter", {"interval": 2, "max_samples": 1}, ["val_00"] * 2),
        ("after_val_iter", {"interval": 1, "draw": False}, []),
        ("after_train_iter", {"interval": 1}, []),
    ],
)
def test_every_nth_batch_is_drawn(event: str, arguments: dict[str, Any], expected: list[str]) -> None:
    hook = BaseVisualizationHook(**{"draw": True, **arguments})
    recorder = Recorder()
    data_batch, outputs = batch(BaseDataElement)
    for batch_idx in range(4):
        getattr(hook, event)(RUNNER, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
    assert recorder.names == expected


class Choosy(BaseVisualizationHook):
    """Omits the first prediction, and passes an additional argument to the visualizer."""

    def choose(self, outputs: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        return list(enumerate(outputs))[1:]

    def options(self) -> dict[str, Any]:
        return {"thickness": 3}


def test_a_hook_filters_predictions_and_passes_options() -> None:
    recorder = Recorder()
    data_batch, outputs = batch(BaseDataElement, 4)
    hook = Choosy(draw=True, interval=1, max_samples=2, show=True, wait_time=0.5)
    hook.after_val_iter(RUNNER, 0, data_batch, outputs)
    assert recorder.names == ["val_01", "val_02"]
    own = {"data_sample": outputs[1], "show": True, "wait_time": 0.5, "step": 30, "thickness": 3}
    assert recorder.drawn[0][2] == own
    of_a_set: Any = SimpleNamespace(iter=30, test_loop=SimpleNamespace(current="day"))
    hook.after_test_iter(of_a_set, 0, data_batch, outputs)
    assert recorder.names[2:] == ["test_day_01", "test_day_02"]


def test_images_of_the_same_name_in_several_folders_have_different_names() -> None:
    recorder = Recorder()
    data_batch, outputs = batch(BaseDataElement, 2)
    for output, folder in zip(outputs, ("oval", "tri"), strict=True):
        output.set_metainfo({"img_path": f"{folder}/00.png"})
    hook = BaseVisualizationHook(draw=True, interval=1)
    for _ in range(2):  # validations
        hook.after_val_iter(RUNNER, 0, data_batch, outputs)
    assert recorder.names == ["val_00", "val_tri_00"] * 2


def test_a_batch_without_images_costs_only_its_images(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    hook = BaseVisualizationHook(draw=True, interval=1)
    hook.after_val_iter(RUNNER, 0, {"inputs": torch.zeros(2, 7)}, [BaseDataElement()])
    assert "The image '0_0' cannot be drawn and is skipped: DataError: the batch contains no image" in caplog.text
    assert recorder.names == []


def test_test_images_are_drawn_at_the_interval(tmp_path: Path) -> None:
    recorder, hook = Recorder(), {"type": "NaiveVisualizationHook", "interval": 2, "draw_gt": False}
    points = loader(16, shuffle=False)
    cfg = settings(tmp_path, visualizer=recorder, custom_hooks=[hook], test_dataloader=points)
    del cfg["val_dataloader"], cfg["val_cfg"], cfg["val_evaluator"]
    runner = Runner(**cfg)
    pictures = {"inputs": torch.zeros(2, 3, 4, 5)}
    for batch_idx in range(4):
        runner.call_hook("after_test_iter", batch_idx=batch_idx, data_batch=pictures, outputs=[None, None])
    assert recorder.names == ["test_1_0", "test_1_1", "test_3_0", "test_3_1"]
    assert recorder.drawn[0][2] == {"data_sample": None, "draw_gt": False, "draw_pred": True, "step": 0}
    assert recorder.drawn[0][1].shape == (4, 5, 3)


def test_image_file_is_turned_and_scaled_as_for_training(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", exif=turned)
    Image.fromarray(np.full((4, 5), 300, np.uint16)).save(tmp_path / "b.png")
    found = [sample_image(str(tmp_path / name), None, 0) for name in ("a.png", "b.png")]
    assert [image is not None and (image.shape, image.max()) for image in found] == [((5, 4, 3), 0), ((4, 5, 3), 1)]
