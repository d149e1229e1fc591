from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import CheckpointError
from footplate.first_generation.adapters import MMDataParallel
from footplate.first_generation.adapters.checkpoints import load_checkpoint, load_state_dict, save_checkpoint


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


def test_save_and_load_weights_of_a_wrapped_model(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pth")
    save_checkpoint(MMDataParallel(filled(3.0)), path, meta={"epoch": 4})
    target = MMDataParallel(filled(0.0))
    found = load_checkpoint(target, path)
    assert found["meta"]["epoch"] == 4
    assert target.module.weight.tolist() == [[3.0, 3.0]]
    assert "optimizer" not in found


@pytest.mark.parametrize("several", [False, True])
def test_optimizer_state_is_saved(tmp_path: Path, several: bool) -> None:
    layer = filled(1.0)
    one = torch.optim.SGD(layer.parameters(), lr=0.25)
    optimizer: Any = {"a": one, "b": one} if several else one
    save_checkpoint(layer, str(tmp_path / "a.pth"), optimizer)
    held = load_checkpoint(layer, str(tmp_path / "a.pth"))["optimizer"]
    groups = (held["b"] if several else held)["param_groups"]
    assert groups[0]["lr"] == 0.25


def test_revise_keys(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pth")
    torch.save({"state_dict": {f"module.net.{key}": value for key, value in filled(2.0).state_dict().items()}}, path)
    target = filled(0.0)
    load_checkpoint(target, path, strict=True, revise_keys=[(r"^module\.net\.", "")])
    assert target.bias.item() == 2.0


def test_strict_raises_for_unexpected_keys() -> None:
    state = {**filled(1.0).state_dict(), "more": torch.ones(1)}
    target = filled(0.0)
    load_state_dict(target, state)
    assert target.bias.item() == 1.0
    with pytest.raises(CheckpointError, match="more"):
        load_state_dict(target, state, strict=True)


def test_load_state_dict_removes_module_prefix(tmp_path: Path) -> None:
    model, path = nn.Linear(2, 2), str(tmp_path / "a.pth")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    save_checkpoint(MMDataParallel(model), path, {"a": optimizer}, {"epoch": 2})
    other = nn.Linear(2, 2)
    assert load_checkpoint(other, path)["meta"]["epoch"] == 2
    assert torch.equal(other.weight, model.weight)
    save_checkpoint(model, path, optimizer)
    third = nn.Linear(2, 2)
    load_state_dict(third, {f"module.{key}": value for key, value in model.state_dict().items()})
    assert torch.equal(third.weight, model.weight)
