import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate import Config, Runner
from footplate.evaluation import BaseMetric
from footplate.tools.runs import read_run
from tests.support import settings


def test_values_that_are_not_recorded_again_are_logged_once(tmp_path: Path) -> None:
    def record_first(runner: Runner, **_: Any) -> None:
        if runner.iter == 0:
            runner.message_hub.update_scalar("train/first", 7.0)

    for epochs in (1, 3):
        cfg = settings(tmp_path, default_hooks={"logger": {"interval": 2}}, resume=epochs == 3)
        runner = Runner(**cfg | {"train_cfg": {"by_epoch": True, "max_epochs": epochs}})
        runner.on("after_train_iter", record_first)
        runner.on("after_train_epoch", lambda runner: runner.message_hub.update_scalar("train/norm", 1.0))
        runner.train()
    series = {each.name: [at for at, _ in each.points] for each in read_run(tmp_path).series}
    assert {name: series[name] for name in ("lr", "first", "norm")} == {
        "lr": [2, 4, 6, 8, 10, 12],
        "first": [2],
        "norm": [6, 10],
    }
    assert [row.get("first") for row in runner.history] == [7, None, None]


def test_evaluation_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = settings(tmp_path, default_hooks={"logger": {"interval": 1}}, log_level="INFO")
    runner = Runner(**cfg)
    runner.test()
    heads = [each.partition("]")[0] for each in caplog.messages if each.startswith("Epoch(test)")]
    assert heads == ["Epoch(test) [1/2", "Epoch(test) [2/2"]  # the last line contains the metrics


def test_headline_metric_has_its_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = {"type": "Told", "values": {"mIoU": [51.0, 53.5, 52.0]}}
    hooks = {"checkpoint": {"save_best": "mIoU"}}
    Runner(**settings(tmp_path, val_evaluator=metrics, default_hooks=hooks, log_level="INFO")).train()
    found = [(each.headline, each.change.strip()) for each in list[Any](caplog.records) if hasattr(each, "headline")]
    assert found == [("mIoU", ""), ("mIoU", "(+2.5)"), ("mIoU", "(-1.5)")]


class Table(BaseMetric[float]):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list[float]) -> dict[str, Any]:
        per_class = {"left": np.array([1.0, 2.0]), 3: np.float32(0.5)}
        return {"score": np.float64(55.5), "per_class": per_class, "path": Path("a"), "test/time": 1}


def test_test_metrics_are_written_as_json(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, test_evaluator=Table()))
    runner.test()
    found = json.loads(Path(runner.log_dir, f"{runner.timestamp}.json").read_text())
    assert (found.pop("time") > 0, found.pop("data_time") > 0) == (True, True)
    assert found == {"score": 55.5, "per_class": {"left": [1.0, 2.0], "3": 0.5}, "path": "a", "test/time": 1}
    assert "time" not in Path(runner.log_dir, "vis_data/scalars.json").read_text()


@pytest.mark.parametrize("keep_local", [True, False])
def test_logs_are_copied_to_out_dir(current_folder: Path, keep_local: bool) -> None:
    hook = {"out_dir": str(current_folder / "out"), "out_suffix": [".json", ".py"], "keep_local": keep_local}
    runner = Runner(**settings(current_folder / "work", default_hooks={"logger": hook, "checkpoint": None}))
    runner.train()
    stamp = runner.timestamp
    scalars = current_folder / "out/work" / stamp / "vis_data/scalars.json"
    assert scalars.with_stem(stamp).read_text() == scalars.read_text()
    names = {f"{stamp}/vis_data/{name}" for name in ("config.py", "scalars.json", f"{stamp}.json")}
    names |= {f"{stamp}/environment.json", f"{stamp}/start.json"}
    found = {str(each.relative_to(current_folder / "out/work")) for each in (current_folder / "out").rglob("*.*")}
    assert found == names
    left = {str(each.relative_to(current_folder / "work")) for each in (current_folder / "work").rglob("*.*")}
    assert left == {f"{stamp}/{stamp}.log", *(names if keep_local else ())}


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
