"""Several optimizers of one model."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict


def model() -> Any:
    return nn.ModuleDict({"g": nn.Linear(1, 1), "d": nn.Linear(1, 1)})


def wrappers(parts: Any, **settings: Any) -> OptimWrapperDict:
    return OptimWrapperDict(
        g=OptimWrapper(SGD(parts["g"].parameters(), lr=0.1, momentum=0.5), **settings),
        d=OptimWrapper(SGD(parts["d"].parameters(), lr=0.2, momentum=0.5), **settings),
    )


def test_states_are_saved_and_loaded_by_name() -> None:
    parts = model()
    found = wrappers(parts)
    for wrapper in found.values():
        wrapper.name_parameters(parts)
    found["g"].update_params(parts["g"](torch.ones(1, 1)).sum())
    state = found.state_dict()
    assert state["g"]["param_groups"][0]["param_names"] == ["g.weight", "g.bias"]
    again = wrappers(parts)
    again.load_state_dict(state)
    buffer = again["g"].optimizer.state[parts["g"].weight]["momentum_buffer"]
    assert torch.equal(buffer, found["g"].optimizer.state[parts["g"].weight]["momentum_buffer"])
    for others in ({"g": state["g"], "x": state["d"]}, {"g": state["g"]}):
        with pytest.raises(CheckpointError, match=r"does not contain the run's optimizers \(g, d\)"):
            again.load_state_dict(others)
    with pytest.raises(CheckpointError, match="contains several optimizers, but the run has only one"):
        again["g"].load_state_dict(state)


def test_zero_grad_resets_the_gradients_of_all_optimizers() -> None:
    parts = model()
    parts["d"](parts["g"](torch.ones(1, 1))).sum().backward()
    wrappers(parts).zero_grad()
    assert [parameter.grad for parameter in parts.parameters()] == [None] * 4


@pytest.mark.parametrize("method", ["update_params", "should_sync"])
def test_methods_that_concern_one_optimizer_ask_which(method: str) -> None:
    with pytest.raises(ArgumentError, match='Call optimizers\\["g"\\]'):
        getattr(wrappers(model()), method)()
