import copy
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import ExifTags, Image

from footplate import Runner
from footplate.data.data_element import BaseDataElement
from footplate.evaluation import Evaluator
from footplate.evaluation.evaluation_sets import EvaluationSet
from footplate_vision.segmentation import SegDataSample, SegVisualizationHook
from footplate_vision.structures import PixelData
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


class Measured(BaseVisualizationHook):
    """Compares two numbers."""

    fields = ("true", "predicted")

    def error(self, sample: Any) -> tuple[float, str]:
        return abs(sample.true - sample.predicted), f"predicted {sample.predicted}"


def evaluate(hook: Any, predicted: Sequence[int], data: Any = range(100)) -> None:
    """Passes predictions for samples of which 0 is true, in batches of four, to a hook."""
    dataloader = SimpleNamespace(dataset=data, is_padding=False)
    loop = SimpleNamespace(current="", sets=[EvaluationSet("", dataloader, Evaluator([]))], dataloader=dataloader)
    runner: Any = SimpleNamespace(iter=30, val_loop=loop)
    hook.before_val_epoch(runner)
    for begin in range(0, len(predicted), 4):
        data_batch, outputs = batch(BaseDataElement, len(predicted[begin : begin + 4]))
        for place, (output, number) in enumerate(zip(outputs, predicted[begin:], strict=False), start=begin):
            output.set_metainfo({"img_path": f"made/{place}.png"})
            output.true, output.predicted, output.logits = 0, number, torch.zeros(999)
        hook.after_val_iter(runner, begin // 4, data_batch, outputs)
    hook.after_val_epoch(runner)


def drawn_worst(recorder: Recorder) -> list[tuple[str, str]]:
    """Returns the names and titles of the worst images, of which only the compared fields are kept."""
    samples = {name: call["data_sample"] for name, _, call in recorder.drawn if name.startswith("worst_")}
    assert all(sample.keys() == ["true", "predicted"] for sample in samples.values())
    return [(name, sample.title) for name, sample in samples.items()]


PREDICTED = [0, 3, 1, 9, 3, 2, 0, 8, 7, 6, 5, 4, 3]


def test_the_samples_with_the_largest_errors_are_drawn() -> None:
    recorder, hook = Recorder(), Measured(draw=True, interval=50)
    evaluate(hook, PREDICTED)
    places = [3, 7, 8, 9, 10, 11, 1, 4]  # of several samples with the same error, the first
    assert drawn_worst(recorder) == [
        (f"worst_val_{rank}", f"{place}.png: predicted {PREDICTED[place]}")
        for rank, place in enumerate(places, start=1)
    ]
    recorder.drawn.clear()
    evaluate(hook, [0, 1, 0])  # of the latest validation only, and none that is right
    assert drawn_worst(recorder) == [("worst_val_1", "1.png: predicted 1")]


def _evaluate_on_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    recorder, hook = Recorder(), Measured(draw=True, interval=50)
    evaluate(hook, [*PREDICTED, 9][rank::2], range(len(PREDICTED)))  # the sampler repeats a sample at the end
    (folder / f"{rank}.json").write_text(json.dumps([title for _, title in drawn_worst(recorder)]))
    dist.destroy_process_group()


def test_several_processes_draw_what_one_does(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_evaluate_on_rank, args=(rank, tmp_path)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    found, of_other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert [title.split()[-1] for title in found] == ["9", "8", "7", "6", "5", "4", "3", "3"]
    assert of_other == []


def test_a_resumed_run_writes_the_same_training_data(tmp_path: Path) -> None:
    def count(hook: Any, first: int, last: int, name: str) -> Any:
        folder = SimpleNamespace(log_dir=str(tmp_path / name))
        runner: Any = SimpleNamespace(folder=folder, train_loop=SimpleNamespace(dataloader=None))
        for index in range(first, last):
            samples = [
                SegDataSample(
                    metainfo={"ori_shape": (4, 5 + index % 2)},
                    gt_sem_seg=PixelData(data=torch.full((1, 4, 5), number, dtype=torch.uint8)),
                )
                for number in (index % 3, 255)
            ]
            hook.before_train_iter(runner, index, {"inputs": [], "data_samples": samples})
        return hook

    count(SegVisualizationHook(draw=True), 0, 600, "whole")
    killed = count(SegVisualizationHook(draw=True), 0, 300, "killed").state_dict()
    resumed = SegVisualizationHook(draw=True)
    resumed.load_state_dict(copy.deepcopy(killed))
    count(resumed, 300, 600, "resumed")
    found, again = (
        json.loads((tmp_path / name / "vis_data/training_data.json").read_text()) for name in ("whole", "resumed")
    )
    assert found == again
    assert not (tmp_path / "killed").exists()
    assert found == {
        "samples": 1000,
        "unit": "pixels",
        "labels": [["label 0", 3340], ["label 1", 3340], ["label 2", 3320], ["label 255", 10000]],
        "sizes": [[5, 4, 500], [6, 4, 500]],
    }


def test_a_batch_without_images_costs_only_its_images(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    hook = BaseVisualizationHook(draw=True, interval=1)
    hook.after_val_iter(RUNNER, 0, {"inputs": torch.zeros(2, 7)}, [BaseDataElement()])
    assert "DataError: the batch contains no image" in caplog.text
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
