from typing import Any

import pytest
import torch

from footplate.data import SampleLoader
from footplate.engine.evaluation_sets import (
    MeanLosses,
    build_evaluators,
    build_loaders,
    holds_several,
    put_together,
)
from footplate.errors import ArgumentError, DataError
from tests.support import PointAccuracy, loader

ACCURACY = {"type": "PointAccuracy"}


@pytest.mark.parametrize(
    ("section", "several"),
    [
        (loader(), False),
        ({"batch_size": 4}, False),
        ({}, False),
        ([1, 2], False),
        ({"clean": loader(), "noisy": loader()}, True),
        ({"clean": [1, 2]}, True),
        ({"clean": loader(), "batch_size": 4}, False),
    ],
)
def test_what_is_several_sets(section: Any, several: bool) -> None:
    assert holds_several(section) is several


def test_each_set_has_its_loader_and_metrics() -> None:
    loaders = build_loaders({"clean": loader(8), "noisy": loader(12)}, seed=0)
    sets = put_together(loaders, build_evaluators(ACCURACY, loaders), {"noisy": 2})
    assert [(each.name, len(each.dataloader.dataset), each.interval) for each in sets] == [
        ("clean", 8, None),
        ("noisy", 12, 2),
    ]
    metrics = [each.evaluator.metrics[0] for each in sets]
    assert all(isinstance(each, PointAccuracy) for each in metrics)
    assert metrics[0] is not metrics[1]
    assert sets[1].named({"accuracy": 1.0}) == {"noisy/accuracy": 1.0}


def test_one_set_is_the_plain_case() -> None:
    loaders = build_loaders(loader(8), seed=0)
    (only,) = put_together(loaders, build_evaluators([ACCURACY], loaders), None)
    assert isinstance(only.dataloader, SampleLoader)
    assert only.evaluator.dataset_meta == {"classes": ("left", "right")}
    assert only.named({"accuracy": 1.0}) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("evaluators", "key", "suggestion"),
    [
        ({"clean": ACCURACY}, "noisy", None),
        ({"clean": ACCURACY, "noisi": ACCURACY}, "noisi", "noisy"),
    ],
)
def test_names_that_do_not_fit(evaluators: Any, key: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        build_evaluators(evaluators, {"clean": [], "noisy": []})
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def test_intervals_and_names_that_make_no_sense() -> None:
    loaders = {"clean": [1], "noisy": [2]}
    for intervals, key in (({"noisi": 2}, "intervals.noisi"), ({"noisy": 0}, "intervals.noisy")):
        with pytest.raises(ArgumentError) as caught:
            put_together(loaders, build_evaluators(ACCURACY, loaders), intervals)
        assert caught.value.key == key
    with pytest.raises(ArgumentError, match="is a word and holds no slash"):
        build_loaders({1: [1]}, seed=0)
    with pytest.raises(ArgumentError, match="several sets are a dict of sections by name"):
        build_loaders([{"dataset": [1]}, {"dataset": [2]}], seed=0)
    with pytest.raises(ArgumentError, match="no slash"):
        build_loaders({"a/b": loader()}, seed=0)


def test_a_mistake_in_one_set_names_it() -> None:
    with pytest.raises(DataError) as caught:
        build_loaders({"clean": loader(), "empty": loader(0)}, seed=0)
    assert caught.value.key == "empty.dataset"


def test_losses_are_means_over_samples() -> None:
    losses = MeanLosses()
    losses.add({"loss": torch.tensor(1.0), "loss_ce": torch.tensor(0.5), "acc": torch.tensor(9.0)}, 3)
    losses.add({"loss": torch.tensor(5.0), "loss_ce": torch.tensor(2.5), "acc": torch.tensor(9.0)}, 1)
    assert losses.result() == {"loss": 2.0, "loss_ce": 1.0}
