import pytest
import torch
from torch import nn

from footplate.errors import BuildError
from footplate.first_generation.adapters import build_from_cfg, build_optimizer, obj_from_dict
from footplate.first_generation.adapters.building import build_dataset
from footplate.first_generation.adapters.parallel import MMDataParallel
from footplate.registry import MODELS, OPTIMIZERS, Registry
from tests.first_generation.adapters.support import OldModel


def test_build_from_cfg() -> None:
    assert type(build_from_cfg({"type": "OldModel"}, MODELS)) is OldModel
    with pytest.raises(BuildError, match="must be a Registry"):
        build_from_cfg({"type": "OldModel"}, {"OldModel": OldModel})  # type: ignore[arg-type]


def test_cfg_overrides_default_args() -> None:
    shapes = Registry("shape", scope="test")

    @shapes.register_module()
    class Box:
        def __init__(self, width: int, height: int) -> None:
            self.size = width, height

    assert build_from_cfg({"type": "Box", "width": 1}, shapes, {"width": 5, "height": 6}).size == (1, 6)


def test_build_optimizer() -> None:
    model = nn.Linear(2, 2)
    built = build_from_cfg({"type": "SGD", "lr": 0.5, "params": model.parameters()}, OPTIMIZERS)
    assert (type(built), built.param_groups[0]["lr"]) == (torch.optim.SGD, 0.5)
    cfg = {"type": "SGD", "lr": 0.5, "weight_decay": 0.1, "paramwise_cfg": {"bias_lr_mult": 2.0}}
    rates = [group["lr"] for group in build_optimizer(MMDataParallel(model), cfg).param_groups]
    assert rates == [0.5, 1.0]


def test_obj_from_dict() -> None:
    assert type(obj_from_dict({"type": "ReLU"}, nn)) is nn.ReLU
    assert obj_from_dict({"type": dict}, default_args={"a": 1}) == {"a": 1}
    with pytest.raises(BuildError, match="there is no 'ReLUU'"):
        obj_from_dict({"type": "ReLUU"}, nn)


def test_build_dataset_concatenates_a_list() -> None:
    assert len(build_dataset([{"type": "OldPoints", "size": 3}, {"type": "OldPoints", "size": 4}])) == 7
    assert build_dataset({"type": "OldPoints", "size": 3}, {"test_mode": True}).test_mode is True
