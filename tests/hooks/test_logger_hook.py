import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate import Config, Runner
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.hooks import CurveHook, LoggerHook, RecordHook
from footplate.visualization import Visualizer, curves
from footplate.visualization.curves import Panel, plot
from tests.support import loader, settings


def logged(tmp_path: Path, train_cfg: dict[str, Any], **hook: Any) -> list[tuple[str, int]]:
    """Returns T (train) or V (validation) and the step of each line of scalars.json."""
    runner = Runner(**settings(tmp_path, train_cfg=train_cfg, default_hooks={"checkpoint": None, "logger": hook}))
    runner.train()
    lines = Path(runner.log_dir, "vis_data/scalars.json").read_text().splitlines()
    assert Path(runner.log_dir, f"vis_data/{runner.timestamp}.json").read_text().splitlines() == lines
    return [("T" if "loss" in line else "V", line["step"]) for line in map(json.loads, lines)]


EPOCHS = {"by_epoch": True, "max_epochs": 2}
ITERATIONS = {"by_epoch": False, "max_iters": 10, "val_interval": 5}


@pytest.mark.parametrize(
    ("train_cfg", "hook", "lines"),
    [
        # As logged by mmengine's runner with epochs of 4 iterations; its metrics have step 0 if iterations are counted.
        (EPOCHS, {}, "T4 V1 T8 V2"),
        (EPOCHS, {"interval": 3}, "T3 V1 T7 V2"),
        (EPOCHS, {"interval": 3, "ignore_last": False}, "T3 T4 V1 T7 T8 V2"),
        (EPOCHS, {"interval": 3, "log_metric_by_epoch": False}, "T3 V4 T7 V8"),
        (ITERATIONS, {"interval": 4, "log_metric_by_epoch": False}, "T4 V5 T8 V10"),
        (ITERATIONS, {"interval": 40}, "V5 T10 V10"),
    ],
)
def test_logs_at_intervals(tmp_path: Path, train_cfg: dict[str, Any], hook: dict[str, Any], lines: str) -> None:
    assert " ".join(f"{kind}{step}" for kind, step in logged(tmp_path, train_cfg, **hook)) == lines


@pytest.mark.parametrize(
    ("interval_exp_name", "places"),
    [
        (3, [4, 6, 10]),
        (1000, []),
    ],
)
def test_the_name_of_the_experiment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, interval_exp_name: int, places: list[int]
) -> None:
    hooks = {"checkpoint": None, "logger": {"interval": 2, "interval_exp_name": interval_exp_name}}
    cfg = settings(tmp_path, train_cfg=ITERATIONS, default_hooks=hooks, experiment_name="first", log_level="INFO")
    Runner(**cfg).train()
    lines = [each for each in caplog.messages if each.startswith(("Exp name: first", "Iter(train)"))]
    heads = [int(lines[at + 1][13:15]) for at, each in enumerate(lines) if each == "Exp name: first"]
    assert heads == places
    assert len(lines) - len(heads) == 5


def test_evaluation_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = settings(tmp_path, default_hooks={"logger": {"interval": 1}}, log_level="INFO")
    runner = Runner(**cfg)
    runner.test()
    heads = [each.partition("]")[0] for each in caplog.messages if each.startswith("Epoch(test)")]
    assert heads == ["Epoch(test) [1/2", "Epoch(test) [2/2", "Epoch(test) [2/2"]


class Table(BaseMetric[float]):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list[float]) -> dict[str, Any]:
        per_class = {"left": np.array([1.0, 2.0]), 3: np.float32(0.5)}
        return {"score": np.float64(55.5), "per_class": per_class, "path": Path("a")}


def test_test_metrics_are_written_as_json(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, test_evaluator=Table()))
    runner.test()
    found = json.loads(Path(runner.log_dir, f"{runner.timestamp}.json").read_text())
    assert (found.pop("time") > 0, found.pop("data_time") > 0) == (True, True)
    assert found == {"score": 55.5, "per_class": {"left": [1.0, 2.0], "3": 0.5}, "path": "a"}


@pytest.mark.parametrize("keep_local", [True, False])
def test_logs_are_copied_to_out_dir(tmp_path: Path, keep_local: bool) -> None:
    hook = {"out_dir": str(tmp_path / "out"), "out_suffix": [".json", ".py"], "keep_local": keep_local}
    runner = Runner(**settings(tmp_path / "work", default_hooks={"logger": hook, "checkpoint": None}))
    runner.train()
    stamp = runner.timestamp
    names = {f"{stamp}/vis_data/{name}" for name in ("config.json", "config.py", "scalars.json", f"{stamp}.json")}
    names |= {f"{stamp}/environment.json", f"{stamp}/start.json"}
    found = {str(each.relative_to(tmp_path / "out/work")) for each in (tmp_path / "out").rglob("*.*")}
    assert found == names
    left = {str(each.relative_to(tmp_path / "work")) for each in (tmp_path / "work").rglob("*.*")}
    assert left == {f"{stamp}/{stamp}.log", *(names if keep_local else ())}


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"interval": 0}, "interval"),
        ({"interval": "10"}, "interval"),
        ({"out_dir": 3}, "out_dir"),
    ],
)
def test_invalid_arguments(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LoggerHook(**arguments)
    assert caught.value.key == key


@pytest.mark.parametrize("edited", [False, True])
def test_config_of_earlier_run_is_replaced_unless_edited(tmp_path: Path, edited: bool) -> None:
    cfg = settings(tmp_path / "work", default_hooks={"checkpoint": None})
    written = tmp_path / "work/exp.py"
    for seed in (1, 2):
        Config({**cfg, "randomness": {"seed": seed}}).dump(tmp_path / "exp.json")
        Runner.from_cfg(Config.fromfile(tmp_path / "exp.json")).train()
        if edited and seed == 1:
            written.write_text(written.read_text() + "mine = 1\n")
    assert Config.fromfile(written).randomness.seed == (1 if edited else 2)


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
def test_validations_are_drawn_at_their_iterations(
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


class Recorder(Visualizer):
    def __init__(self) -> None:
        super().__init__("naive-recorder")
        self.drawn: list[tuple[str, Any, dict[str, Any]]] = []

    def add_datasample(self, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        self.drawn.append((name, image, kwargs))


def test_test_images_are_drawn_at_the_interval(tmp_path: Path) -> None:
    recorder, hook = Recorder(), {"type": "NaiveVisualizationHook", "interval": 2, "draw_gt": False}
    points = loader(16, shuffle=False)
    cfg = settings(tmp_path, visualizer=recorder, custom_hooks=[hook], test_dataloader=points)
    del cfg["val_dataloader"], cfg["val_cfg"], cfg["val_evaluator"]
    runner = Runner(**cfg)
    pictures = {"inputs": torch.zeros(2, 3, 4, 5)}
    for batch_idx in range(4):
        runner.call_hook("after_test_iter", batch_idx=batch_idx, data_batch=pictures, outputs=[None, None])
    assert [name for name, _, _ in recorder.drawn] == ["test_1_0", "test_1_1", "test_3_0", "test_3_1"]
    assert recorder.drawn[0][2] == {"draw_gt": False, "draw_pred": True, "step": 0}
    assert recorder.drawn[0][1].shape == (4, 5, 3)


@pytest.mark.parametrize("text", ["a = 1  # x.py:1\n", lambda: "a = 1  # x.py:1\n"])
def test_text_is_written_to_the_run_folder(tmp_path: Path, text: Any) -> None:
    runner: Any = SimpleNamespace(log_dir=str(tmp_path))
    RecordHook("explained.txt", text).before_run(runner)
    assert (tmp_path / "explained.txt").read_text() == "a = 1  # x.py:1\n"
