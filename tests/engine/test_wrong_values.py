"""Wrong values of any kind are rejected with their origin."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import METRICS, Runner
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from tests.support import loader, settings

POWERS = [-1, -0.5, float("nan"), float("inf"), None]
LOADERS: dict[str, list[Any]] = {
    "drop_last": ["no", "", 1],
    "persistent_workers": ["no", 2],
    "prefetch_factor": [0, -1, "x", 0.5],
    "multiprocessing_context": ["frok", 3],
    "timeout": [float("nan"), float("inf"), "x"],
    "worker_init_fn": [3, "print"],
}


@pytest.mark.parametrize("power", POWERS, ids=str)
@pytest.mark.parametrize("by_epoch", [True, False])
def test_invalid_power_raises(tmp_path: Path, power: Any, by_epoch: bool) -> None:
    schedule = [{"type": "PolyLR", "power": power, "by_epoch": by_epoch}]
    with pytest.raises(ArgumentError, match='"power" must be a (finite )?number') as caught:
        Runner(**settings(tmp_path, param_scheduler=schedule)).train()
    assert caught.value.key == "param_scheduler[0].power"


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in LOADERS.items() for value in values])
def test_invalid_loader_argument_raises(tmp_path: Path, key: str, value: Any) -> None:
    section = loader(**{"num_workers": 1, key: value})
    with pytest.raises(ArgumentError) as caught:
        Runner(**settings(tmp_path, train_dataloader=section)).train()
    assert caught.value.key == f"train_dataloader.{key}"


class Given(BaseMetric[int]):
    """Returns a fixed value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results: list[int]) -> dict[str, Any]:
        return {"accuracy": self.value}


VALUES = ["good", "0.5", torch.ones(2), {"a": 1}, [1.0], None, 1j]
WATCHING: list[tuple[str, dict[str, Any]]] = [
    (
        "default_hooks.checkpoint.save_best",
        {"default_hooks": {"checkpoint": {"save_best": "accuracy", "interval": 1}}},
    ),
    ("EarlyStoppingHook.monitor", {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "accuracy"}]}),
    (
        "param_scheduler.monitor",
        {"param_scheduler": {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "by_epoch": True}},
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(("key", "changes"), WATCHING, ids=[key for key, _ in WATCHING])
def test_monitored_metric_must_be_one_number(tmp_path: Path, value: Any, key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="the metric 'accuracy' is not a single number") as caught:
        Runner(**settings(tmp_path, val_evaluator=Given(value), **changes)).train()
    assert caught.value.key == key


@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5), torch.ones(1)], ids=str)
def test_tensor_with_one_number_is_accepted(tmp_path: Path, value: Any) -> None:
    changes = {**WATCHING[0][1], **WATCHING[2][1]}
    Runner(**settings(tmp_path, val_evaluator=Given(value), **changes)).train()
    assert list(tmp_path.glob("best_accuracy_*.pth"))


@pytest.mark.parametrize(
    "name", ["Accuracy", "SingleLabelMetric", "ConfusionMatrix", "IoUMetric", "CocoMetric", "LinearProbe"]
)
@pytest.mark.parametrize(
    "sample", [torch.tensor(1), (torch.tensor(1), 0), 1, None], ids=["tensor", "pair", "int", "none"]
)
def test_task_metric_needs_data_elements(name: str, sample: Any) -> None:
    kind = METRICS.get(name)
    metric = kind()
    metric.dataset_meta = {"classes": ("left", "right")}
    with pytest.raises(ArgumentError, match="requires a data element or a dict for each sample") as caught:
        metric.process({}, [sample])
    assert caught.value.found == type(sample).__name__


@pytest.mark.parametrize("place", ["foo://x", "s4://bucket/run"])
def test_work_dir_with_an_unknown_protocol_raises(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="cannot use the storage protocol") as caught:
        Runner(**settings(place))
    assert caught.value.key == "work_dir"
    assert not list(tmp_path.iterdir())


def test_work_dir_with_a_null_byte_raises() -> None:
    with pytest.raises(ArgumentError, match="'work_dir' must be the path to a folder") as caught:
        Runner(**settings("a\0b"))
    assert caught.value.key == "work_dir"
