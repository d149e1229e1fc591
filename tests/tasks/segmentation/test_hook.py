from typing import Any

from footplate.registry import HOOKS
from footplate.tasks.segmentation import SegDataSample, SegVisualizationHook
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
