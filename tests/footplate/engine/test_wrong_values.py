"""Wrong values of any kind are rejected with their origin."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from tests.support import loader, settings

LOADERS = [("drop_last", "no"), ("timeout", float("nan"))]


@pytest.mark.parametrize(("key", "value"), LOADERS)
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


VALUES = [
    "good",
    torch.ones(2),
    None,
]
WATCHING: list[tuple[str, dict[str, Any]]] = [
    (
        "default_hooks.checkpoint.save_best",
        {"default_hooks": {"checkpoint": {"save_best": "accuracy", "interval": 1}}},
    ),
    ("custom_hooks[0].monitor", {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "accuracy"}]}),
    (
        "param_scheduler.monitor",
        {"param_scheduler": {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "by_epoch": True}},
    ),
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("key", "changes"), WATCHING)
def test_monitored_metric_must_be_one_number(tmp_path: Path, value: Any, key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="the value of the metric 'accuracy' is not a single number") as caught:
        Runner(**settings(tmp_path, val_evaluator=Given(value), **changes)).train()
    assert caught.value.key == key


@pytest.mark.parametrize("value", [0.5, torch.ones(1)])
def test_tensor_with_one_number_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture, value: Any) -> None:
    changes = {**WATCHING[0][1], **WATCHING[2][1]}
    Runner(**settings(tmp_path, val_evaluator=Given(value), **changes)).train()
    assert list(tmp_path.glob("best_accuracy_*.pth"))
    assert "A parameter schedule treats lower values of 'accuracy' as better." in caplog.text


@pytest.mark.parametrize("place", ["foo://x", "s4://bucket/run"])
def test_work_dir_with_an_unknown_protocol_raises(current_folder: Path, place: str) -> None:
    with pytest.raises(ArgumentError, match="cannot use the storage protocol") as caught:
        Runner(**settings(place))
    assert caught.value.key == "work_dir"
    assert not list(current_folder.iterdir())
