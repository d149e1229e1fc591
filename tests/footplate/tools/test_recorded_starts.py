"""What a run records about its starts is read by `analyze` and `report`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.engine.control.run_folder import locked
from footplate.tools.analysis import describe_runs, explain_runs
from footplate.tools.report_curves import arrange_charts
from footplate.tools.run_facts import describe_run, run_state
from footplate.tools.runs import Run, read_run, read_runs
from footplate.visualization import Visualizer
from tests.support import json_lines, loader, settings


def run_in(folder: Path, **changes: Any) -> Runner:
    return Runner(**settings(folder, **changes))


def text_of(*runs: Run) -> str:
    return explain_runs(describe_runs(runs)[1])


def points(folder: Path, name: str) -> list[tuple[float, float]]:
    series = next((series for series in read_run(folder).series if series.name == name), None)
    return series.points if series else []


def iterations(folder: Path, name: str) -> list[float]:
    return [at for at, _ in points(folder, name)]


def test_epoch_length_is_recorded(tmp_path: Path) -> None:
    hooks = {"logger": {"interval": 6}, "checkpoint": None}
    run_in(tmp_path, train_dataloader=loader(40), default_hooks=hooks).train()  # logs iterations 6, 16 and 26 of 30
    run = read_run(tmp_path)
    assert (run.epoch_length, iterations(tmp_path, "accuracy")) == (10, [10, 20, 30])


@pytest.mark.parametrize("by_epoch", [True, False])
def test_numbers_that_a_hook_logs_keep_their_iteration(tmp_path: Path, by_epoch: bool) -> None:
    runner = run_in(tmp_path, default_hooks={"logger": {"log_metric_by_epoch": by_epoch}})
    runner.on("after_train_epoch", lambda runner: runner.log("norm", 1.0))
    runner.on("after_val_epoch", lambda runner: runner.log("error", 2.0))
    runner.train()
    assert run_state(read_run(tmp_path))["done"] == 12
    assert [iterations(tmp_path, name) for name in ("norm", "error", "accuracy")] == [[4, 8, 12]] * 3


def test_test_in_the_folder_of_a_run_keeps_its_iterations(tmp_path: Path) -> None:
    run_in(tmp_path).train()
    before = describe_run(read_run(tmp_path), None)
    tester = run_in(tmp_path, load_from=str(tmp_path / "epoch_1.pth"))
    tester.test()
    assert (tester.iter, tester.epoch) == (4, 1)  # the step of images and per-class results
    run = read_run(tmp_path)
    charts = arrange_charts([run], None)["metrics"]
    assert {(chart["mode"], chart["set"], chart["name"]) for chart in charts if chart["mode"] != "train"} == {
        ("val", "", "accuracy"),
        ("test", "", "accuracy"),
    }
    after = describe_run(run, None)
    assert after["state"] == before["state"]
    assert after["metrics"]["accuracy"] == before["metrics"]["accuracy"]
    assert iterations(tmp_path, "test/accuracy") == [4]


def test_tests_of_different_checkpoints_or_configs_are_runs_of_their_own(tmp_path: Path) -> None:
    run_in(tmp_path / "a").train()
    first, second = (str(tmp_path / f"a/epoch_{epoch}.pth") for epoch in (1, 2))
    for folder, checkpoint in (("b", second), ("b", first), ("b", first), ("a", first)):
        run_in(tmp_path / folder, load_from=checkpoint).test()
    run_in(tmp_path / "a", load_from=first, test_cfg={"fp16": True}).test()
    text = text_of(*read_runs([f"{tmp_path}/b", f"{tmp_path}/a"]))
    assert sorted(re.findall("  test        (.*): test/acc", text)) == [first, first, first, second]


def test_validation_in_the_folder_of_a_run_adds_nothing_to_its_training_curves(tmp_path: Path) -> None:
    settings = {"val_cfg": {"loss": True}, "default_hooks": {"logger": {"interval": 1}}}
    run_in(tmp_path, **settings).train()
    before = read_run(tmp_path)
    run_in(tmp_path, **settings, load_from=str(tmp_path / "epoch_3.pth")).val()
    after = read_run(tmp_path)
    assert {(series.name, series.mode) for series in after.series} == {(s.name, s.mode) for s in before.series}
    assert after.scalars("train")["loss"] == before.scalars("train")["loss"]


def test_early_stop_is_recorded_until_the_run_is_resumed(tmp_path: Path) -> None:
    runner = run_in(tmp_path)
    runner.on("after_train_epoch", lambda runner: setattr(runner.train_loop, "stop_training", True))
    runner.train()
    run = read_run(tmp_path)
    assert run_state(run)["complete"]
    assert text_of(run).startswith(f"{tmp_path}: stopped early (by a hook, 4 of 12 iterations)\n")
    run_in(tmp_path, resume=True).train()
    assert text_of(read_run(tmp_path)).startswith(f"{tmp_path}: finished (12 iterations, resumed at 4)\n")


@pytest.mark.parametrize(
    ("stop", "error", "done", "reason"),
    [
        (lambda runner: 1 / (runner.iter - 5), ZeroDivisionError, 5, "an error: ZeroDivisionError: division by zero"),
        (lambda runner: runner.iter == 5 and runner.requests.request_stop(15), SystemExit, 6, "SIGTERM"),
    ],
)
def test_analysis_says_whether_a_run_is_running_or_what_stopped_it(
    tmp_path: Path, stop: Any, error: Any, done: int, reason: str
) -> None:
    runner = run_in(tmp_path)
    runner.on("before_train_iter", stop)
    with pytest.raises(error):
        runner.train()
    with locked(str(tmp_path)):
        assert text_of(read_run(tmp_path)).startswith(f"{tmp_path}: running ({done} of 12 iterations)\n")
    begin = f"{tmp_path}: stopped early (by {reason}, {done} of 12 iterations)\n"
    assert text_of(read_run(tmp_path)).startswith(begin)


def test_starts_are_ordered_by_their_recorded_time(tmp_path: Path) -> None:
    run_in(tmp_path, train_cfg={"by_epoch": True, "max_epochs": 2, "val_interval": 1}).train()
    run_in(tmp_path, resume=True).train()
    # The run started in Berlin and was resumed in New York an hour later.
    first, second = sorted(
        tmp_path.glob("2*"), key=lambda start: json.loads((start / "start.json").read_text())["time"]
    )
    first.rename(tmp_path / "20260101_120000")
    second.rename(tmp_path / "20260101_070000")
    assert iterations(tmp_path, "accuracy") == [4, 8, 12]


def test_a_start_from_an_earlier_checkpoint_replaces_what_followed_it(tmp_path: Path) -> None:
    run_in(tmp_path).train()
    shorter = {"by_epoch": True, "max_epochs": 2, "val_interval": 1}
    run_in(tmp_path, resume=True, load_from=str(tmp_path / "epoch_1.pth"), train_cfg=shorter).train()
    assert iterations(tmp_path, "accuracy") == [4, 8]


def test_records_before_a_change_of_the_batch_size_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_in(tmp_path, train_dataloader=loader(40)).train()
    longer = {"train_cfg": {"by_epoch": True, "max_epochs": 5}, "resume": True}
    run_in(tmp_path, train_dataloader=loader(40, batch_size=8), **longer).train()
    assert iterations(tmp_path, "accuracy") == [5, 10, 15, 20, 25]
    assert "The iteration is now 15 instead of 30" in caplog.text


def test_visualizer_with_the_arguments_of_mmengine_records_the_iterations_of_metrics(tmp_path: Path) -> None:
    class Own(Visualizer):
        def add_scalars(self, scalar_dict: Any, step: int = 0, file_path: str | None = None) -> None:  # type: ignore[override]
            super().add_scalars(scalar_dict, step, file_path)

    folder = str(tmp_path / "vis")
    run_in(tmp_path, visualizer=Own(vis_backends=[{"type": "LocalVisBackend"}], save_dir=folder)).train()
    lines = json_lines(tmp_path / "vis/vis_data/scalars.json")
    assert [line["iteration"] for line in lines if "accuracy" in line] == [4, 8, 12]


def test_a_run_with_a_config_is_used_by_predict_whatever_its_variables_are_called(tmp_path: Path) -> None:
    cfg = Config({**settings(tmp_path / "a"), "max_epochs": 9, "loss": None})
    Runner.from_cfg(cfg).train()
    run = read_run(tmp_path / "a")
    assert run.environment["config variables"] == ["loss", "max_epochs"]
    assert describe_run(run, None)["use"]["command"].startswith("footplate predict ")
    run_in(tmp_path / "b").train()
    assert describe_run(read_run(tmp_path / "b"), None)["use"]["command"].startswith(
        "from footplate.checkpoint import "
    )
