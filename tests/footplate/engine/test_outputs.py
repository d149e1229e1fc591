"""A run writes inside its work_dir, whatever paths its config gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate import Runner
from footplate.errors import ArgumentError, FootplateError
from footplate.evaluation import DumpResults
from footplate.records import LocalVisBackend
from tests.support import settings

LOCAL = {"type": "LocalVisBackend"}
PLACES: dict[str, Any] = {
    "json_trace_path": lambda path: {"custom_hooks": [{"type": "ProfilerHook", "json_trace_path": path}]},
    "trace folder": lambda path: {
        "custom_hooks": [{"type": "ProfilerHook", "on_trace_ready": {"type": "tb_trace", "dir_name": path}}]
    },
    "record": lambda path: {"custom_hooks": [{"type": "RecordHook", "filename": path, "text": "x"}]},
    "predictions": lambda path: {"val_evaluator": {"type": "DumpResults", "out_file_path": f"{path}.pkl"}},
    "coco": lambda path: {"val_evaluator": {"type": "CocoMetric", "outfile_prefix": path}},
    "visualizer": lambda path: {"visualizer": {"save_dir": path, "vis_backends": [LOCAL]}},
    "writer": lambda path: {"visualizer": {"vis_backends": [{**LOCAL, "save_dir": path}]}},
    "pictures": lambda path: {"visualizer": {"vis_backends": [{**LOCAL, "img_save_dir": path}]}},
    "scalars": lambda path: {"visualizer": {"vis_backends": [{**LOCAL, "scalar_save_file": f"{path}.json"}]}},
    "config": lambda path: {"visualizer": {"vis_backends": [{**LOCAL, "config_save_file": f"{path}.py"}]}},
}


@pytest.mark.parametrize("place", PLACES)
def test_outputs_stay_in_the_work_dir(tmp_path: Path, place: str) -> None:
    path = "../x.json"  # test_paths.py tests other paths
    (tmp_path / "x.json").write_text("mine")
    with pytest.raises(FootplateError, match="must be relative and stay inside the work_dir"):
        Runner(**settings(tmp_path / "work", **PLACES[place](path))).train()
    assert (tmp_path / "x.json").read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir() if each.name != "work") == ["x.json"]


def test_predictions_are_written_to_the_log_folder(tmp_path: Path) -> None:
    evaluator = [{"type": "DumpResults", "out_file_path": "out/found.pkl"}]
    runner = Runner(**settings(tmp_path, val_evaluator=evaluator))
    runner.train()
    assert Path(runner.log_dir, "out/found.pkl").exists()


def test_script_chooses_where_predictions_are_written(tmp_path: Path) -> None:
    """`tools/test.py --out` of the code bases adds the metric to the evaluator of the runner."""
    runner = Runner(**settings(tmp_path / "work"))
    assert runner.val_loop is not None
    runner.val_loop.evaluator.metrics.append(DumpResults(str(tmp_path / "found.pkl")))
    runner.train()
    assert (tmp_path / "found.pkl").exists()


def test_image_name_stays_in_the_log_folder(tmp_path: Path) -> None:
    writer = LocalVisBackend(str(tmp_path / "deep" / "run"))
    picture = np.zeros((2, 2, 3), np.uint8)
    writer.add_image("val_a/x", picture, 1)
    with pytest.raises(ArgumentError, match="must be relative and stay inside the work_dir"):
        writer.add_image("val_/../../../../out", picture, 1)
    assert [each.name for each in tmp_path.rglob("*.png")] == ["x_1.png"]
