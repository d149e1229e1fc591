import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from footplate.data import SampleLoader
from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric, DumpResults, EvaluationContext, Evaluator
from tests.footplate.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.support import json_lines


class Seen(BaseMetric[Any]):
    """Returns the samples in the order in which they were gathered."""

    default_prefix: str | None = "seen"

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        return {"all": [int(result) for result in results], "sum": float(sum(results))}


@pytest.mark.parametrize("found", [None, {None: 1.0}])
def test_values_that_are_not_a_dict_by_name_are_refused(found: Any) -> None:
    class Nameless(Seen):
        def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
            values: dict[str, Any] = found
            return values

    metric = Nameless()
    metric.process(None, [1])
    with pytest.raises(
        ArgumentError, match="compute_metrics of 'Nameless' must return a dict that maps names to values"
    ):
        metric.evaluate(1)


def test_evaluation_without_results_is_an_error() -> None:
    with pytest.raises(DataError, match="the metric 'Seen' has no results"):
        Seen().evaluate(3)


def test_results_may_be_stored_outside_the_list_of_results(caplog: pytest.LogCaptureFixture) -> None:
    class Counting(BaseMetric[int]):
        count = 0

        def process(self, data_batch: Any, data_samples: Any) -> None:
            self.count += len(data_samples)

        def compute_metrics(self, results: list[int]) -> dict[str, Any]:
            return {"count": self.count}

    assert Evaluator(Counting()).offline_evaluate([1, 2, 3]) == {"count": 3}
    assert "process() of the metric 'Counting' has not appended to self.results." in caplog.text


def evaluate_each(sizes: list[int]) -> list[dict[str, Any]]:
    found = []
    for size in sizes:
        for round_up in (True, False):
            dataset = [10 + at for at in range(size)]
            sampler = {"type": "DefaultSampler", "shuffle": False, "round_up": round_up}
            found.append(evaluate_all(dataset, sampler))
    return found


def evaluate_all(dataset: list[int], sampler: dict[str, Any]) -> dict[str, Any]:
    from footplate.data import build_dataloader

    metric = Seen()
    loader = build_dataloader({"dataset": dataset, "sampler": sampler, "batch_size": 2})
    assert isinstance(loader, SampleLoader)
    for batch in loader:
        metric.process(batch, default_collate(batch))
    return metric.evaluate(len(dataset))


def test_ranks_gather_each_sample_once_and_in_order(on_ranks: OnRanks) -> None:  # noqa: F811
    sizes = [1, 2, 7, 10]
    expected = [list(range(10, 10 + size)) for size in sizes for _ in range(2)]
    for found in on_ranks(3, evaluate_each, sizes):
        assert [each["seen/all"] for each in found] == expected


def test_dump_results_writes_copies_of_predictions(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "day" / "found.pkl"
    metric = DumpResults(str(tmp_path / "deep/found.pkl"))
    metric.context = EvaluationContext(folder="elsewhere", dataset="day")
    batch = torch.tensor([1.0, 2.0])
    for each in batch:
        metric.process(None, [{"scores": each[None]}])
    batch.zero_()
    assert metric.evaluate(2) == {}
    assert [each["scores"].item() for each in pickle.loads(path.read_bytes())] == [1.0, 2.0]
    with pytest.raises(ArgumentError, match="must end in .pkl or .pickle"):
        DumpResults("found.json")


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
    assert json_lines(tmp_path / "vis_data/per_class.jsonl") == [
        {"step": 20, "mode": "val", "dataset": "", **table},
        {"step": 0, "mode": "test", "dataset": "night", **table},
    ]


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "vis_data").write_text("a file")
    evaluate(folder=str(tmp_path), step=lambda: 20)
    assert "Could not write the per-class results of iteration 20: " in caplog.text
