import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim import OptimWrapper, build_optim_wrapper, learning_rate_scaling, scale_learning_rates


def rates(wrapper: Any) -> list[float]:
    return [float(group["lr"]) for group in wrapper.param_groups]


@pytest.mark.parametrize(("world", "base", "factor"), [(1, 16, 0.5), (3, 8, 3.0)])
def test_rates_scale_with_the_batch_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, world: int, base: int, factor: float
) -> None:
    monkeypatch.setattr(learning_rate_scaling, "get_world_size", lambda: world)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    cfg = {"optimizer": {"type": "AdamW", "lr": 0.1}, "paramwise_cfg": {"custom_keys": {"0": {"lr_mult": 0.1}}}}
    wrapper = build_optim_wrapper(model, cfg)
    with caplog.at_level(logging.INFO, logger="footplate"):
        scale_learning_rates(wrapper, SimpleNamespace(batch_size=8), {"enable": True, "base_batch_size": base})
    assert sorted(rates(wrapper)) == pytest.approx([0.01 * factor, 0.1 * factor])
    (line,) = [record.getMessage() for record in caplog.records if "auto_scale_lr" in record.getMessage()]
    assert f"factor {factor:g} (processes: {world}, samples per process: 8, base batch size: {base})" in line


class Prodigy(torch.optim.SGD):
    """A stand-in for an optimizer that adapts its own learning rate."""


def test_optimizers_with_their_own_step_size_are_not_scaled(caplog: pytest.LogCaptureFixture) -> None:
    wrapper = OptimWrapper(Prodigy(nn.Linear(1, 1).parameters(), lr=1.0))
    with caplog.at_level(logging.INFO, logger="footplate"):
        scale_learning_rates(wrapper, SimpleNamespace(batch_size=8), {"enable": True, "base_batch_size": 2})
    assert rates(wrapper) == [1.0]
    assert "Prodigy computes its own step size" in caplog.text


def test_optimizer_is_scaled_only_once() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    cfg = {"enable": True, "base_batch_size": 4}
    scale_learning_rates(OptimWrapper(optimizer), SimpleNamespace(batch_size=8), cfg)
    with pytest.raises(ArgumentError, match="has already scaled the learning rates of this optimizer"):
        scale_learning_rates(OptimWrapper(optimizer), SimpleNamespace(batch_size=8), cfg)
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_several_optimizers_and_tensor_rates() -> None:
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    section = {"optimizer": {"type": "SGD", "lr": 0.2}}
    wrapper = build_optim_wrapper(model, {"a": section, "b": section})
    wrapper.parts["b"].param_groups[0]["lr"] = torch.tensor(0.2)
    scale_learning_rates(wrapper, SimpleNamespace(batch_size=2), {"enable": True, "base_batch_size": 4})
    assert [float(group["lr"]) for part in wrapper.parts.values() for group in part.param_groups] == pytest.approx(
        [0.1, 0.1]
    )
