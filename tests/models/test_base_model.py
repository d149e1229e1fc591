import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError, UnknownNameError
from footplate.models import BaseDataPreprocessor, BaseModel, ImgDataPreprocessor

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
        self.frames = [frame.name for frame in traceback.extract_stack() if "footplate" in frame.filename]


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


def test_forward_hooks_of_torch_are_called() -> None:
    model, seen = Model(), []
    model.register_forward_hook(lambda module, args, output: seen.append(len(args)))
    model.val_step((torch.zeros(1), 0.0))
    assert seen == [2]


def test_train_step_calls_the_preprocessor_with_training_true() -> None:
    class Preprocessor(BaseDataPreprocessor):
        def forward(self, data: Any, training: bool = False) -> Any:
            return (torch.tensor(float(training)), 0.0)

    model = Model(Preprocessor())
    assert model.train_step(None, Wrapper())["acc"].item() == 1.0
    assert model.val_step(None)[1].item() == 0.0


def test_preprocessor_is_built_from_a_dict() -> None:
    model = Model({"type": "ImgDataPreprocessor", "mean": [1.0], "std": [2.0]})
    assert isinstance(model.data_preprocessor, ImgDataPreprocessor)
    with pytest.raises(UnknownNameError, match="ImgDataPreprocessor"):
        Model({"type": "ImgDataPreproccessor"})


def test_batch_that_is_not_a_dict_or_list_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a dict, list or tuple"):
        Model().val_step(torch.zeros(1))


def test_preprocessor_moves_batches_to_the_device_of_the_model() -> None:
    model = Model()
    assert model.device.type == "cpu"
    model.to("meta")
    assert isinstance(model.data_preprocessor, BaseDataPreprocessor)
    assert (model.device.type, model.data_preprocessor.device.type) == ("meta", "meta")
    assert model.val_step((torch.zeros(1), 0.0))[1].device.type == "meta"


def test_overridden_parse_losses_is_called() -> None:
    class Doubled(Model):
        def parse_losses(self, losses: Any) -> tuple[Tensor, dict[str, Tensor]]:
            return super().parse_losses({"loss": losses["loss"] * 2})

    assert Doubled().train_step((torch.tensor([3.0]), 1.0), Wrapper())["loss"].item() == 50.0


def test_forward_is_abstract() -> None:
    with pytest.raises(TypeError, match="forward"):
        BaseModel()  # type: ignore[abstract]
