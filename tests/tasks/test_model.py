from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError, UnknownNameError
from footplate.tasks.model import TaskModel, build_part


class Echo(TaskModel):
    """Says which of its methods answered."""

    def outputs(self, inputs: Any) -> Any:
        return "outputs", inputs

    def loss(self, inputs: Any, data_samples: Sequence[Any] | None) -> Any:
        return {"loss": (inputs, data_samples)}

    def predict(self, inputs: Any, data_samples: Sequence[Any] | None) -> list[Any]:
        return [inputs, data_samples]


def test_each_mode_has_a_method() -> None:
    model = Echo()
    assert model(1, [2]) == ("outputs", 1)
    assert model(1, [2], mode="loss") == {"loss": (1, [2])}
    assert model(1, [2], mode="predict") == [1, [2]]
    with pytest.raises(ArgumentError, match="a model is asked for 'tensor', 'loss' or 'predict'"):
        model(1, mode="train")


def test_a_part_is_a_module_or_the_dict_of_one() -> None:
    layer = nn.Linear(1, 1)
    assert build_part("neck", layer) is layer
    built = build_part("backbone", {"type": "SmallResNet", "in_channels": 1})
    assert built(torch.zeros(2, 1, 8, 8))[0].shape == (2, 32, 4, 4)
    with pytest.raises(UnknownNameError) as raised:
        build_part("backbone", {"type": "SmallResnet"})
    assert (raised.value.key, raised.value.suggestion) == ("backbone.type", "SmallResNet")
