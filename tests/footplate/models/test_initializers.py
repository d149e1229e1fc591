import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.models import bias_from_probability
from footplate.registry import WEIGHT_INITIALIZERS


def initialized(module: Any, **cfg: Any) -> Any:
    torch.manual_seed(0)
    WEIGHT_INITIALIZERS.build(cfg).initialize(module, everything=False)
    return module


def drawn(shape: tuple[int, ...], draw: Any) -> Tensor:
    torch.manual_seed(0)
    weight = torch.empty(shape)
    draw(weight)
    return weight


@pytest.mark.parametrize(
    ("cfg", "draw"),
    [
        ({"type": "Constant", "val": 2}, lambda weight: weight.fill_(2)),
        ({"type": "Uniform", "a": -1, "b": 3}, lambda weight: weight.uniform_(-1, 3)),
        ({"type": "Xavier", "gain": 2, "distribution": "uniform"}, lambda weight: nn.init.xavier_uniform_(weight, 2)),
        ({"type": "Kaiming"}, lambda weight: weight.normal_(0, math.sqrt(2 / (3 * 9)))),
        ({"type": "Caffe2Xavier"}, lambda weight: weight.uniform_(-math.sqrt(3 / 18), math.sqrt(3 / 18))),
    ],
)
def test_weights_are_drawn_from_the_distribution(cfg: dict[str, Any], draw: Any) -> None:
    layer = initialized(nn.Conv2d(2, 3, 3), layer="Conv2d", bias=0.5, **cfg)
    assert torch.allclose(layer.weight, drawn((3, 2, 3, 3), draw), rtol=0, atol=1e-7)
    assert (layer.bias == 0.5).all()


def test_bias_prob_sets_the_sigmoid_of_the_bias() -> None:
    layer = initialized(nn.Linear(1, 1), type="Constant", val=0, layer="Linear", bias_prob=0.25)
    assert torch.sigmoid(layer.bias).item() == pytest.approx(0.25)
    assert bias_from_probability(0.5) == 0.0


def test_truncated_normal_draws_the_numbers_of_mmengine() -> None:
    weight = initialized(nn.Linear(4, 3), type="TruncNormal", std=0.02, layer="Linear").weight[0]
    expected = [-0.00018766950233839452, 0.014660065993666649, -0.027003809809684753, -0.02233688160777092]
    assert weight.tolist() == pytest.approx(expected, rel=1e-6)
