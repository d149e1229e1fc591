from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from footplate.first_generation.adapters.mmcv_functions import imfrombytes
from footplate.registry import HOOKS
from footplate.tasks.segmentation import SegDataSample, SegVisualizationHook
from footplate.visualization import Visualizer
from tests.tasks.recording import RUNNER, Recorder, batch


def names_drawn(hook: Any, event: str) -> list[str]:
    recorder = Recorder()
    data_batch, outputs = batch(SegDataSample)
    for batch_idx in range(4):
        getattr(hook, event)(RUNNER, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
    return recorder.names


def test_a_config_builds_it() -> None:
    hook = HOOKS.build({"type": "SegVisualizationHook", "draw": True, "interval": 2})
    assert names_drawn(hook, "after_val_iter") == ["val_00", "val_01"] * 2
    assert names_drawn(HOOKS.build({"type": "SegVisualizationHook", "interval": 2}), "after_val_iter") == []


def test_it_can_be_subclassed_as_the_documents_show() -> None:
    class Mine(SegVisualizationHook):
        def _after_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "val"
        ) -> None:
            if self.draw is False or mode == "train":
                return
            if self.every_n_inner_iters(batch_idx, self.interval):
                for output in outputs:
                    self._visualizer.add_datasample(
                        f"{mode}_{output.img_path}", None, data_sample=output, show=self.show, step=runner.iter
                    )

    assert names_drawn(Mine(draw=True, interval=3), "after_test_iter") == ["test_made/00.png", "test_made/01.png"]


class AsPublished(SegVisualizationHook):
    """Finds its visualizer and reads its pictures as the field's own hook does, and takes what that is given."""

    def __init__(self, draw: bool = False, interval: int = 50, show: bool = False, wait_time: float = 0.0) -> None:
        super().__init__(draw, interval, show, wait_time, file_client_args={"backend": "disk"}, backend_args=None)
        self._visualizer = Visualizer.get_current_instance()

    def _after_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Any, mode: str = "val") -> None:  # type: ignore[override]
        for output in outputs if self.every_n_inner_iters(batch_idx, self.interval) else ():
            img = imfrombytes(self.file_client.get(output.img_path), channel_order="rgb")
            self._visualizer.add_datasample(
                mode, img, data_sample=output, show=self.show, wait_time=self.wait_time, step=runner.iter
            )


def test_a_subclass_reads_pictures_and_keeps_its_visualizer(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(np.full((4, 5, 3), (9, 8, 7), np.uint8)).save(path)
    recorder = Recorder()
    hook = AsPublished(draw=True, interval=2)
    Recorder()  # the current one; the hook keeps the one that it found
    hook.after_val_iter(RUNNER, batch_idx=1, data_batch={}, outputs=[SegDataSample(metainfo={"img_path": str(path)})])
    assert recorder.names == ["val"]
    assert recorder.drawn[0][1][0, 0].tolist() == [9, 8, 7]
