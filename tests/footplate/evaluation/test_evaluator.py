import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from footplate.data.data_element import BaseDataElement
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric, Evaluator, TorchMetric, build_evaluator
from footplate.evaluation.evaluator import FunctionMetric, rows_of
from footplate.registry import EVALUATOR, METRICS


class Counting(BaseMetric[Any]):
    def __init__(self, name: str = "count", **options: Any) -> None:
        super().__init__(**options)
        self.name = name
        self.batches: list[Any] = []

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.batches.append(data_batch)
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        return {self.name: len(results)}


class OwnEvaluator(Evaluator):
    pass


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    METRICS.register_module(name="CountingForTest", module=Counting, force=True)
    EVALUATOR.register_module(name="OwnEvaluatorForTest", module=OwnEvaluator, force=True)


@pytest.mark.parametrize(
    ("method", "function", "expected"),
    [
        ("compute_metrics", lambda self: {}, "compute_metrics(self, results)"),
        ("process", lambda self, data_samples: None, "process(self, data_batch, data_samples)"),
    ],
)
def test_a_metric_with_a_wrong_signature_is_refused_when_it_is_built(method: str, function: Any, expected: str) -> None:
    kind = type("Wrong", (Counting,), {method: function})
    with pytest.raises(ArgumentError, match=f"Wrong.{method} does not accept") as caught:
        Evaluator([kind()])
    assert caught.value.notes == (f"expected: {expected}",)


def test_an_object_that_accumulates_is_not_a_function() -> None:
    dice = type("Dice", (), {"__call__": max, "aggregate": max, "reset": id})()
    with pytest.raises(ArgumentError, match="`compute` and `reset`"):
        Evaluator({"dice": dice})


def test_metrics_receive_data_elements_as_dicts() -> None:
    metric = Counting()
    inner = BaseDataElement(label=3)
    Evaluator(metric).process([BaseDataElement(metainfo={"img_path": "a"}, pred=inner), {"plain": 1}])
    assert metric.results == [{"img_path": "a", "pred": {"label": 3}}, {"plain": 1}]


def test_two_values_with_one_name_are_refused() -> None:
    evaluator = Evaluator([Counting(), Counting()])
    evaluator.process([1])
    with pytest.raises(ArgumentError, match="two metrics return values named 'count'\n  key \\[1\\]\n.*prefix"):
        evaluator.evaluate(1)


class OnlyIndices:
    """Accepts any index, as many datasets do that compute their samples."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        assert isinstance(index, int)
        return index + 5


@pytest.mark.parametrize(("chunk_size", "batches"), [(1, [[5], [6], [7]]), (2, [[5, 6], [7]])])
def test_offline_evaluate_passes_chunks_to_metrics(chunk_size: int, batches: list[Any]) -> None:
    metric = Counting()
    data: Any = OnlyIndices()
    assert Evaluator(metric).offline_evaluate([5, 6, 7], data, chunk_size) == {"count": 3}
    assert metric.batches == batches
    assert Evaluator(metric).offline_evaluate([5, 6, 7], chunk_size=2) == {"count": 3}
    assert metric.batches[-2:] == [None, None]
    streamed = ({"x": index} for index in range(3))
    assert Evaluator(metric).offline_evaluate(iter([5, 6, 7]), streamed, chunk_size=2) == {"count": 3}
    assert metric.batches[-2:] == [{"x": [0, 1]}, {"x": [2]}]


@pytest.mark.parametrize(
    ("cfg", "kind", "number"),
    [
        ({"type": "CountingForTest"}, Evaluator, 1),
        ([{"type": "CountingForTest"}, Counting()], Evaluator, 2),
        (Counting(), Evaluator, 1),
        ({"metrics": [{"type": "CountingForTest"}] * 2}, Evaluator, 2),
        ({"type": "OwnEvaluatorForTest", "metrics": [{"type": "CountingForTest"}]}, OwnEvaluator, 1),
    ],
)
def test_all_forms_of_an_evaluator_config_are_built(cfg: Any, kind: type, number: int) -> None:
    evaluator = build_evaluator(cfg)
    assert type(evaluator) is kind
    assert len(evaluator.metrics) == number


class Values:
    """A metric with the torchmetrics API that returns the last prediction and the last target."""

    def reset(self) -> None:
        self.values = {"p": 0, "t": 0}

    def update(self, predictions: int, target: int) -> None:
        self.values = {"p": predictions, "t": target}

    def compute(self) -> dict[str, int]:
        return self.values


@pytest.mark.parametrize(
    ("options", "predictions", "batch", "values"),
    [
        ({}, 3, {"image": 0, "label": 1}, (3, 1)),
        ({}, 3, {"image": 0, "mask": 2}, (3, 2)),
        ({"target": "coarse"}, 3, {"image": 0, "label": 1, "coarse": 2}, (3, 2)),
        ({"target": "mask", "prediction": "m"}, {"m": 3, "c": 4}, {"image": 0, "label": 1, "mask": 2}, (3, 2)),
        ({"target": 1, "prediction": 0}, (3, 4), (0, 1, 2), (3, 1)),
        ({"target": lambda batch: batch[1]["mask"]}, 3, (0, {"label": 1, "mask": 2}), (3, 2)),
    ],
)
def test_target_and_prediction_of_an_object_can_be_chosen(
    options: Any, predictions: Any, batch: Any, values: tuple[int, int]
) -> None:
    evaluator = build_evaluator({"v": TorchMetric(Values(), **options)})
    evaluator.process(predictions, batch)
    assert evaluator.evaluate(1) == dict(zip(["v/p", "v/t"], values, strict=True))


@pytest.mark.parametrize(
    ("values", "mean"), [([1.0, 2.0], 1.5), ([math.inf, 1.0], math.inf), ([math.inf, -math.inf], math.nan)]
)
def test_mean_of_a_function_may_be_non_finite(values: list[float], mean: float) -> None:
    metric = FunctionMetric(max, "score")
    results: Any = [{"score": (value, 1.0)} for value in values]
    assert metric.compute_metrics(results) == {"score": pytest.approx(mean, nan_ok=True)}


def test_rows_of_nested_predictions_are_split_for_metrics_of_several_processes() -> None:
    scores, boxes = torch.tensor([[1.0], [2.0]]), torch.tensor([[3], [4]])
    assert rows_of((scores, boxes)) == [(scores[:1], boxes[:1]), (scores[1:], boxes[1:])]
    assert rows_of({"scores": scores}) == [{"scores": scores[:1]}, {"scores": scores[1:]}]
    with pytest.raises(ArgumentError, match="needs one row per sample"):
        rows_of({"scores": scores, "temperature": torch.tensor(1.0)})
