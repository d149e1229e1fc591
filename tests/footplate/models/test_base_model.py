import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from footplate.errors import DataError
from footplate.models import BaseModel, BaseTTAModel, parse_losses
from footplate.registry import MODELS

Mode = Literal["tensor", "loss", "predict"]


class Model(BaseModel):
    def __init__(self, data_preprocessor: Any = None) -> None:
        super().__init__(data_preprocessor)
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs: Any, labels: Any = 0.0, mode: Mode = "tensor") -> Any:
        if mode == "loss":
            return {"loss": (inputs * self.weight - labels).square(), "acc": inputs.mean()}
        return [mode, inputs, labels]


class Wrapper:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.frames: list[str] = []

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        self.events.append("enter")
        yield
        self.events.append("leave")

    def update_params(self, loss: Tensor) -> None:
        self.events.append(f"update {loss.item()}")
        self.frames = [frame.name for frame in traceback.extract_stack() if "src/footplate/" in frame.filename]


@pytest.mark.parametrize(
    "data", [(torch.tensor([3.0]), 1.0), [torch.tensor([3.0]), 1.0], {"inputs": torch.tensor([3.0]), "labels": 1.0}]
)
def test_batches_are_passed_as_positional_or_keyword_arguments(data: Any) -> None:
    wrapper = Wrapper()
    log_vars = Model().train_step(data, wrapper)
    assert {name: value.item() for name, value in log_vars.items()} == {"loss": 25.0, "acc": 3.0}
    assert wrapper.events == ["enter", "leave", "update 25.0"]
    assert wrapper.frames == ["train_step"]  # one footplate frame between the loop and the optimizer wrapper
    assert Model().val_step(data) == ["predict", torch.tensor([3.0]), 1.0]
    assert Model().test_step(data) == ["predict", torch.tensor([3.0]), 1.0]


@pytest.mark.parametrize(
    ("losses", "total", "log_vars"),
    [
        ({"loss": torch.tensor([1.0, 3.0])}, 2.0, {"loss": 2.0}),
        ({"loss_a": torch.tensor(2.0), "b_loss": torch.tensor(3.0)}, 5.0, {"loss": 5.0, "loss_a": 2.0, "b_loss": 3.0}),
        (
            {"loss_rpn": [torch.tensor([1.0, 2.0]), torch.tensor(4.0)], "acc": torch.tensor([True, False])},
            5.5,
            {"loss": 5.5, "loss_rpn": 5.5, "acc": 0.5},
        ),
    ],
)
def test_losses_are_summed_and_all_values_are_logged(
    losses: dict[str, Any], total: float, log_vars: dict[str, float]
) -> None:
    found, logged = parse_losses(losses)
    assert isinstance(found, Tensor)
    assert found.item() == total
    assert {name: value.item() for name, value in logged.items()} == log_vars
    assert next(iter(logged)) == "loss"


@MODELS.register_module()
class Doubling(BaseModel):
    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        return [2 * each for each in inputs] if mode == "predict" else mode


class Largest(BaseTTAModel):
    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        return [max(views) for views in data_samples_list]


@pytest.mark.parametrize(
    "data",
    [
        {"inputs": [[1, 5], [4, 2], [3, 3]]},
        [[[1, 5], [4, 2], [3, 3]]],
        {"inputs": list(torch.tensor([[1, 5], [4, 2], [3, 3]])), "data_samples": [["a", "b"]] * 3},
    ],
)
def test_predictions_of_all_views_are_merged(data: Any) -> None:
    model: Any = Largest({"type": "Doubling"})
    assert model.val_step(data) == model.test_step(data) == [8, 10]
    assert model(None, mode="tensor") == "tensor"
    model.test_step = str
    assert model.val_step(2) == "2"


def test_list_of_samples_is_no_list_of_views() -> None:
    with pytest.raises(DataError, match="must contain several views"):
        Largest({"type": "Doubling"}).test_step({"inputs": [torch.zeros(3, 4, 4)] * 2})
    with pytest.raises(DataError, match="the same number of samples"):
        Largest({"type": "Doubling"}).test_step({"inputs": [torch.zeros(3, 4, 4)] * 2, "labels": [[0], [1]]})
