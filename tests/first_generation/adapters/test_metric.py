import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.evaluation import Evaluator
from footplate.first_generation.adapters import LegacyMetric
from footplate.first_generation.adapters.metric import _merged
from footplate.first_generation.adapters.model import BatchResult
from footplate.registry import DATASETS
from tests.first_generation.adapters.support import OldPoints, old_config, old_config_with_evaluation


@DATASETS.register_module()
class PreEvaluated(OldPoints):
    def pre_eval(self, results: list[Any], indices: list[int]) -> list[Any]:
        return [(index, result == self[index]["label"]) for result, index in zip(results, indices, strict=True)]

    def evaluate(self, results: list[Any], metric: Any = "accuracy", logger: Any = None, **options: Any) -> Any:
        assert [index for index, _ in results] == list(range(len(self)))
        return {"accuracy": sum(right for _, right in results) / len(results)}


def test_evaluate_gets_all_settings(tmp_path: Path) -> None:
    runner = Runner.from_cfg(old_config_with_evaluation(tmp_path, metric=["accuracy"], classwise=True, topk=(1, 5)))
    runner.train()
    assert runner.val_loop is not None
    asked = runner.val_dataloader.dataset.evaluations
    expected = {"results": 8, "metric": ["accuracy"], "logger": logging.getLogger("footplate")}
    assert asked == [{**expected, "classwise": True, "topk": (1, 5)}] * 3
    assert runner.val_dataloader.dataset.test_mode is True
    assert runner.message_hub.get_scalar("val/accuracy").data[0].shape == (3,)


def test_pre_eval_gives_equal_results(tmp_path: Path) -> None:
    found = []
    for kind, pre_eval in (("OldPoints", False), ("PreEvaluated", True)):
        cfg = old_config_with_evaluation(tmp_path / kind, metric="accuracy", pre_eval=pre_eval)
        cfg["data"]["val"]["type"] = kind
        runner = Runner.from_cfg(cfg)
        runner.train()
        found.append(runner.message_hub.get_scalar("val/accuracy").data[0].tolist())
    assert found[0] == found[1]


def test_best_checkpoint_by_a_metric_of_the_dataset(tmp_path: Path) -> None:
    Runner.from_cfg(
        old_config_with_evaluation(tmp_path, metric="accuracy", save_best="accuracy", rule="greater")
    ).train()
    assert len(list(tmp_path.glob("best_accuracy_epoch_*.pth"))) == 1


def test_test_run_writes_the_metrics_of_the_dataset(tmp_path: Path) -> None:
    runner = Runner.from_cfg(old_config_with_evaluation(tmp_path, metric="accuracy"))
    metrics = runner.test()
    written = json.loads((Path(runner.log_dir) / f"{runner.timestamp}.json").read_text())
    assert written["accuracy"] == metrics["accuracy"]
    assert runner.test_dataloader.dataset.evaluations[0]["metric"] == "accuracy"


def test_dataset_without_evaluate_uses_metrics_by_name() -> None:
    metric = LegacyMetric(["mIoU", "mDice"])
    metric.attach(np.zeros(3))
    assert [type(each).__name__ for each in metric._metrics] == ["IoUMetric"]
    assert _merged([{"type": "A", "k": "x"}, {"type": "B"}, {"type": "A", "k": ["y"]}]) == [
        {"type": "A", "k": ["x", "y"]},
        {"type": "B"},
    ]


@pytest.mark.parametrize(("metric", "suggestion"), [("mIuO", "mIoU"), (None, None), (["mIoU", "mDise"], "mDice")])
def test_unknown_metric_raises(metric: Any, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError, match="the dataset 'list' has no evaluate") as caught:
        Evaluator([LegacyMetric(metric)]).attach([1, 2])
    assert caught.value.suggestion == suggestion


def test_results_of_whole_batches_are_concatenated() -> None:
    class Asked:
        def evaluate(self, results: Any, logger: Any = None) -> dict[str, float]:
            return {"sum": float(results["head0"].sum()), "count": len(results["head0"])}

    metric = LegacyMetric()
    metric.attach(Asked())
    for values in ([1.0, 2.0], [3.0]):
        metric.process(None, [BatchResult(head0=np.array(values))])
    assert metric.evaluate(3) == {"sum": 6.0, "count": 3}


def test_config_without_evaluation_does_not_validate(tmp_path: Path) -> None:
    runner = Runner.from_cfg(old_config(tmp_path))
    runner.train()
    assert runner.val_loop is None
