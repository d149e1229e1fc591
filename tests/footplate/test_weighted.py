"""Values that functions return: numbers without a name or mark are refused, whatever function returns them."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from footplate import Runner, Sum, Weighted
from footplate.errors import ArgumentError, NonFiniteError
from footplate.evaluation.evaluator import FunctionMetric, TorchMetric, returned_numbers
from footplate.models import parse_losses
from footplate.models.plain_losses import losses_in
from footplate.models.training_step import TrainStep
from footplate.optim import OptimWrapper
from footplate.records import MessageHub


class Pair(NamedTuple):
    """Two numbers with names that nobody reads."""

    recon: Any
    kl: Any


class Stored:
    """An object with the torchmetrics API."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def update(self, predictions: Any, target: Any) -> None: ...

    def reset(self) -> None: ...

    def compute(self) -> Any:
        return self.value


def trained() -> Tensor:
    return torch.ones((), requires_grad=True) * 2


# The second number after a loss: a weight, another loss, or a value to log.
SECONDS: list[Callable[[], Any]] = [
    lambda: 3,
    lambda: 0.5,
    lambda: np.float32(3),
    lambda: torch.tensor(3),
    lambda: torch.tensor([3]),
    lambda: torch.tensor(3.0),
    trained,
]
FORMS: list[Callable[[Any, Any], Any]] = [
    lambda first, second: (first, second),
    lambda first, second: (first, second, second),
    lambda first, second: (first,),
    Pair,
]


def metric(value: Any) -> Any:
    return FunctionMetric(lambda predictions, batch: value, "score").process([1], [1])


def validation(value: Any, *, required: bool) -> Any:
    return returned_numbers(value, torch.zeros(4, 2), required=required)


def logged(value: Any) -> None:
    hub = MessageHub()
    hub.update_info_dict({"iter": 0})
    step = TrainStep(hub)
    step.log("score", value)
    hub.update_scalar("train/score", step.values.marked.get("score", step.values["score"]))


def updated(value: Any) -> None:
    weight = nn.Parameter(torch.ones(()))
    OptimWrapper(torch.optim.SGD([weight], lr=0.1)).update_params(value)


PLACES: dict[str, Callable[[Any], Any]] = {
    "training_step": lambda value: losses_in(value, "training_step"),
    "the loss function": lambda value: losses_in(value, "the loss function"),
    "the model": lambda value: losses_in(value, "the model 'Net'"),
    "a dict of training_step": lambda value: losses_in({"loss": value}, "training_step"),
    "a logged value of training_step": lambda value: losses_in({"loss": trained(), "score": value}, "training_step"),
    "losses of a BaseModel": lambda value: parse_losses({"loss_a": value}),
    "values of a BaseModel": lambda value: parse_losses({"loss_a": trained(), "score": value}),
    "metric": metric,
    "dict of a metric": lambda value: metric({"a": value}),
    "torchmetrics": lambda value: TorchMetric(Stored(value)).compute_metrics([]),
    "validation_step": lambda value: validation(value, required=True),
    "validation_step next to a loss": lambda value: validation(value, required=False),
    "dict of validation_step": lambda value: validation({"a": value}, required=True),
    "dict of validation_step next to a loss": lambda value: validation({"a": value, "b": 1}, required=False),
    "step.log": logged,
    "update_params": updated,
}


@pytest.mark.parametrize("place", PLACES)
def test_tuples_of_numbers_are_refused_everywhere(place: str) -> None:
    for form, second in itertools.product(FORMS, SECONDS):
        value = form(trained(), second())
        with pytest.raises(ArgumentError, match="are ambiguous") as caught:
            PLACES[place](value)
        assert caught.value.notes == (
            "If these are a mean and its number of items, return Weighted(value, count).",
            "Otherwise, return their sum, or a dict that names each of them.",
        )


@pytest.mark.parametrize("place", ["a dict of training_step", "losses of a BaseModel"])
def test_lists_of_losses_are_sums(place: str) -> None:
    losses = PLACES[place]([trained(), trained().reshape(1)])
    assert (losses["loss"] if isinstance(losses, dict) else losses[0]) == 4
    for second in (3, torch.tensor(3)):
        with pytest.raises(ArgumentError, match="are ambiguous"):
            PLACES[place]([trained(), second])


def test_a_list_of_a_loss_and_an_accuracy_is_no_sum() -> None:
    with pytest.raises(
        ArgumentError, match="several numbers from entry 'loss' in the dict from training_step are ambiguous"
    ):
        losses_in({"loss": [trained(), torch.tensor(0.5)]}, "training_step")


@pytest.mark.parametrize(
    ("weight", "problem"),
    [
        (trained(), "without a gradient"),
        (torch.ones(2), "a number of items"),
        (-1, "finite, at least 0"),
        (torch.tensor(-1), "finite, at least 0"),
        (np.float32(-1), "finite, at least 0"),
        (math.nan, "finite, at least 0"),
        (torch.tensor(math.inf), "finite, at least 0"),
    ],
)
def test_weights_are_numbers_of_items(weight: Any, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        Weighted(torch.ones(()), weight)


def masked_error(scores: Tensor, labels: Tensor) -> Weighted:
    known = labels >= 0
    return Weighted((scores[:, 0] - labels)[known].square().mean(), known.sum())


def run(folder: Path, labels: list[float], **settings: Any) -> Runner:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    batches = [(torch.ones(3, 2), torch.full((3,), label)) for label in labels]
    arguments = {"optim_wrapper": torch.optim.SGD(model.parameters(), lr=0.1), "loss": masked_error, **settings}
    return Runner(model, folder, batches, max_epochs=1, preflight=False, **arguments)


@pytest.mark.parametrize("labels", [[1.0, -1.0] * 2, [-1.0, -1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, -1.0]])
@pytest.mark.parametrize(
    "settings",
    [
        {"on_nonfinite": {"interval": 1}},
        {"default_hooks": {"checkpoint": {"by_epoch": False, "interval": 1}}},
        {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 2}},
        {"optim_wrapper": {"type": "AmpOptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}, "dtype": "float16"}},
    ],
)
def test_batches_without_labels_are_not_judged(tmp_path: Path, labels: list[float], settings: dict[str, Any]) -> None:
    runner = run(
        tmp_path, labels, default_hooks={"logger": {"interval": 1}, **settings.pop("default_hooks", {})}, **settings
    )
    row = runner.train()[-1]
    assert ("loss" in row) == (max(labels) > 0)
    assert runner.iter == len(labels)
    assert all(weight.isfinite().all() for weight in runner.model.parameters())
    assert "nan" not in "".join(file.read_text().lower() for file in tmp_path.rglob("scalars.json"))


def test_a_batch_without_labels_at_the_end_of_an_interval_is_not_judged(tmp_path: Path) -> None:
    assert run(tmp_path, [*[1.0] * 50, -1.0]).train()[-1]["loss"] < 2


def test_update_params_ignores_a_loss_without_weight(tmp_path: Path) -> None:
    def step(model: Any, batch: Any, optimizer: Any) -> None:
        optimizer.update_params(Weighted(model(batch[0]).sum() * math.nan, 0))

    runner = run(tmp_path, [1.0], loss=None, training_step=step)
    before = [weight.clone() for weight in runner.model.parameters()]
    runner.train()
    assert all(map(torch.equal, runner.model.parameters(), before))


def test_a_negative_weight_on_an_accelerator_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a weight is not read when the value is created."""
    monkeypatch.setattr(Weighted, "__new__", lambda cls, *parts: tuple.__new__(cls, parts))
    with pytest.raises(NonFiniteError, match="the weight of the loss was -3 in iteration 1"):
        run(tmp_path, [1.0], loss=lambda scores, labels: Weighted(scores.mean(), -3)).train()


def test_sums_and_weighted_values_are_accepted_as_metrics() -> None:
    metric = FunctionMetric(lambda predictions, batch: {"mean": Weighted(2.0, 3), "sum": Sum(5)}, "x")
    metric.process([1], [1])
    assert metric.evaluate(1) == {"x/mean": 2.0, "x/sum": 5.0}
