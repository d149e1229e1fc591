"""Layer-wise learning rate decay."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from footplate.optim import build_optim_wrapper


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.norm = nn.LayerNorm(1)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 1)) for _ in range(4)])
        self.stages = nn.ModuleList([nn.Sequential(*[Block() for _ in range(depth)]) for depth in (1, 1, 9, 1)])
        self.norm3 = nn.LayerNorm(1)


class BEiT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = parameter(1, 1, 2)
        self.patch_embed = nn.Conv2d(1, 1, 1)
        self.layers = nn.ModuleList([Block() for _ in range(12)])
        self.relative_position_bias_table = parameter(2, 2)


class Net(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Conv2d(1, 1, 1)
        self.pos_embed = parameter(2, 2)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)


def settings(backbone: nn.Module, name: str = "LearningRateDecayOptimizerConstructor", **paramwise: Any) -> Any:
    """Returns the exponent of the decay rate and the weight decay by parameter name, and the number of groups."""
    model = backbone if isinstance(backbone, Net) else Net(backbone)
    section = {
        "constructor": name,
        "optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.05},
        "paramwise_cfg": paramwise,
    }
    wrapper = build_optim_wrapper(model, section)
    names = {id(each): each_name for each_name, each in model.named_parameters()}
    found = {
        names[id(each)]: (round(math.log(group["lr"] / 0.1, 0.9), 9), group["weight_decay"])
        for group in wrapper.param_groups
        for each in group["params"]
    }
    return found, len(wrapper.param_groups)


LAYERS = {
    "backbone.downsample_layers.0.0.weight": 7,
    "backbone.downsample_layers.1.0.weight": 5,
    "backbone.downsample_layers.3.0.weight": 1,
    "backbone.stages.0.0.conv.weight": 6,
    "backbone.stages.1.0.conv.weight": 5,
    "backbone.stages.2.0.conv.weight": 4,
    "backbone.stages.2.8.conv.weight": 2,
    "backbone.stages.3.0.conv.weight": 1,
    "decode_head.weight": 0,
}
STAGES = {
    "backbone.downsample_layers.0.0.weight": 7,
    "backbone.downsample_layers.3.0.weight": 7,
    "backbone.stages.0.0.conv.weight": 6,
    "backbone.stages.1.0.conv.weight": 5,
    "backbone.stages.2.8.conv.weight": 4,
    "backbone.stages.3.0.conv.weight": 3,
    "decode_head.weight": 0,
}
VIT = {
    "backbone.cls_token": 7,
    "backbone.patch_embed.weight": 7,
    "backbone.layers.0.conv.weight": 6,
    "backbone.layers.11.conv.weight": -5,
    "backbone.relative_position_bias_table": 0,
    "decode_head.weight": 0,
}


@pytest.mark.parametrize(
    ("backbone", "kind", "exponents"),
    [(ConvNeXt, "layer_wise", LAYERS), (ConvNeXt, "stage_wise", STAGES), (BEiT, "layer_wise", VIT)],
)
def test_exponents_of_the_decay_rate(backbone: type[nn.Module], kind: str, exponents: dict[str, int]) -> None:
    found, groups = settings(backbone(), decay_rate=0.9, decay_type=kind, num_layers=6)
    assert {name: found[name][0] for name in exponents} == exponents
    assert groups == len(set(found.values()))


def test_one_dimensional_parameters_and_biases_have_no_weight_decay() -> None:
    found, _ = settings(BEiT(), decay_rate=0.9, num_layers=12)
    assert found["backbone.layers.0.norm.weight"][1] == found["backbone.layers.0.conv.bias"][1] == 0.0
    assert found["pos_embed"] == (0.0, 0.0)
    assert found["backbone.cls_token"][1] == 0.05
    assert not [name for name in found if "frozen" in name]
