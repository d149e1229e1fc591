import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate.evaluation import BaseMetric, Evaluator
from footplate.evaluation.per_class import format_table


class Recording(BaseMetric[Any]):
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        self.record_per_class("IoU", ["bag", "shoe"], {"IoU": np.array([0.5, np.nan]), "pixels": [3, 0]})
        return {}


def evaluate(**context: Any) -> None:
    evaluator = Evaluator([Recording()])
    evaluator.set_context(**context)
    evaluator.process([1])
    evaluator.evaluate(1)


def test_per_class_results_are_json_lines(tmp_path: Path) -> None:
    evaluate(folder=str(tmp_path), step=lambda: 20)
    evaluate(folder=str(tmp_path), mode="test", dataset="night")
    table = {"metric": "IoU", "columns": ["class", "IoU", "pixels"], "rows": [["bag", 0.5, 3], ["shoe", None, 0]]}
    lines = (tmp_path / "vis_data/per_class.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 20, "mode": "val", "dataset": "", **table},
        {"step": 0, "mode": "test", "dataset": "night", **table},
    ]


def test_nothing_is_recorded_without_a_run_or_in_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate()
    evaluate(folder=str(tmp_path), is_trial=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "vis_data").write_text("a file")
    evaluate(folder=str(tmp_path), step=lambda: 20)
    assert "The per-class results of iteration 20 could not be written: " in caplog.text


def test_columns_of_a_table_are_as_wide_as_their_content() -> None:
    columns = {"IoU": np.array([97.0, 5.555]), "Precision": np.array([100.0, np.nan])}
    assert format_table(["wall", "a long name"], columns).splitlines() == [
        "class           IoU  Precision",
        "wall          97.00     100.00",
        "a long name    5.55        nan",
    ]


def test_a_table_without_classes_has_only_a_heading() -> None:
    assert format_table([], {"IoU": np.array([])}) == "class     IoU"
