from abc import ABCMeta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.models import BaseModule, ModuleDict, ModuleList, Sequential
from footplate_openmmlab.first_generation.adapters.base_module import BaseModule as ModuleOfMmcv

LINEAR = {"type": "Constant", "layer": "Linear"}


class Part(BaseModule):
    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        self.linear = nn.Linear(1, 1)


class Net(BaseModule):
    def __init__(self, init_cfg: Any = None, part_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        self.linear = nn.Linear(1, 1)
        self.score = nn.Linear(1, 1)
        self.part = Part(part_cfg)
        self.several = Sequential(ModuleList([Part(part_cfg)]), ModuleDict({"a": Part(part_cfg)}))

    @property
    def norm(self) -> nn.Module:
        """A layer under a second name, as in the residual blocks of OpenMMLab."""
        return self.score


def weights(init_cfg: Any, part_cfg: Any = None) -> list[float]:
    """Returns the weights of linear, score, part and the two parts in containers; 1 means not initialized."""
    net = Net(init_cfg, part_cfg)
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    net.init_weights()
    return [module.weight.item() for module in net.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    ("init_cfg", "part_cfg", "expected"),
    [
        (None, None, [1, 1, 1, 1, 1]),
        ({**LINEAR, "val": 2}, {**LINEAR, "val": 3}, [2, 2, 3, 3, 3]),
        ([{**LINEAR, "val": 2}, {**LINEAR, "val": 4}], None, [4, 4, 4, 4, 4]),
        ({**LINEAR, "val": 2, "override": {"type": "Constant", "name": "score", "val": 5}}, None, [2, 5, 2, 2, 2]),
        ({**LINEAR, "val": 2, "override": {"type": "Constant", "name": "norm", "val": 5}}, None, [2, 5, 2, 2, 2]),
        ({"type": "Constant", "val": 2, "override": [{"name": "part"}, {"name": "score"}]}, None, [1, 2, 2, 1, 1]),
    ],
)
def test_precedence_of_init_cfg_of_modules_and_submodules(init_cfg: Any, part_cfg: Any, expected: list[float]) -> None:
    assert weights(init_cfg, part_cfg) == expected


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    net = Net()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 9)
    state = {**net.state_dict(), **{f"backbone.{key}": value - 1 for key, value in Part().state_dict().items()}}
    for key in ("backbone.linear.weight", "backbone.linear.bias"):
        state[key] = torch.full_like(state[key], 8.0)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    return str(tmp_path / "a.pth")


def test_pretrained_weights_are_loaded_last(checkpoint: str) -> None:
    loaded = {"type": "Pretrained", "checkpoint": checkpoint}
    assert weights(loaded, {**LINEAR, "val": 3}) == [9] * 5
    assert weights([{**LINEAR, "val": 2}, loaded], {**LINEAR, "val": 3}) == [9] * 5


def test_revise_keys_are_applied_and_matches_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {"module.old.linear.weight": torch.full((1, 1), 7.0), "module.old.extra": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "c.pth")
    revise_keys = [(r"^module\.", ""), (r"^old\.", "backbone.")]
    cfg = {
        "type": "Pretrained",
        "checkpoint": str(tmp_path / "c.pth"),
        "prefix": "backbone",
        "revise_keys": revise_keys,
    }
    part = Part(cfg)
    part.init_weights()
    assert part.linear.weight.item() == 7.0
    message = next(each for each in caplog.messages if each.startswith("Loaded "))
    assert message.splitlines()[0] == f"Loaded 1 of 2 tensors from '{tmp_path}/c.pth'"
    assert "missing from the file" in message
    assert "linear.bias" in message
    assert "extra" in message


@pytest.mark.parametrize(("base", "is_initialized"), [(BaseModule, True), (ModuleOfMmcv, False)])
def test_children_of_pretrained_modules(base: Any, is_initialized: bool, tmp_path: Path) -> None:
    class Child(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, 1)

        def init_weights(self) -> None:
            nn.init.constant_(self.linear.weight, 5)

    class Parent(base, metaclass=ABCMeta):  # type: ignore[misc]
        def __init__(self, init_cfg: Any = None) -> None:
            super().__init__(init_cfg)
            self.linear = nn.Linear(1, 1)
            self.child = Child()

    path = str(tmp_path / "a.pth")
    torch.save({"linear.weight": torch.ones(1, 1), "linear.bias": torch.ones(1)}, path)
    loaded = {"type": "Pretrained", "checkpoint": path}
    for init_cfg, expected in ((loaded, is_initialized), ([loaded], True)):
        model = Parent(init_cfg)
        assert isinstance(model, BaseModule)
        model.init_weights()
        assert model.linear.weight.item() == 1
        assert (model.child.linear.weight.item() == 5) == expected


def test_init_weights_skips_children_marked_as_initialized() -> None:
    net = Net(None, {**LINEAR, "val": 3})
    nn.init.ones_(net.part.linear.weight)
    net.part.is_init = True
    net.init_weights()
    assert net.part.linear.weight.item() == 1
    other: Any = net.several[0]
    assert other[0].linear.weight.item() == 3
