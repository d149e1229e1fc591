import torch
from torch import nn

from footplate.first_generation.adapters import SteppedByHook, SteppedByModel


def layer_and(kind: type[SteppedByHook] | type[SteppedByModel]) -> tuple[nn.Linear, SteppedByHook | SteppedByModel]:
    layer = nn.Linear(1, 1)
    return layer, kind(torch.optim.SGD(layer.parameters(), lr=0.5))


def test_stepped_by_hook_keeps_the_loss_and_does_not_step() -> None:
    layer, wrapper = layer_and(SteppedByHook)
    before = layer.weight.item()
    loss = layer(torch.ones(1, 1)).sum()
    wrapper.update_params(loss)
    assert wrapper.pending_loss is loss  # type: ignore[union-attr]
    assert (layer.weight.grad, layer.weight.item()) == (None, before)


def test_iteration_settings_are_restored_within_the_block() -> None:
    layer, wrapper = layer_and(SteppedByHook)
    assert isinstance(wrapper, SteppedByHook)
    group = wrapper.param_groups[0]
    wrapper.update_params(layer(torch.ones(1, 1)).sum())
    group["lr"], group["mark"] = 0.25, 1
    with wrapper.iteration_settings():
        assert (group["lr"], group["mark"]) == (0.5, 1)
        group["mark"] = 2
    assert (group["lr"], group["mark"]) == (0.25, 2)


def test_forward_pass_uses_the_precision_of_the_hook() -> None:
    layer, wrapper = layer_and(SteppedByHook)
    assert isinstance(wrapper, SteppedByHook)
    with wrapper.optim_context(layer):
        assert layer(torch.ones(1, 1)).dtype is torch.float32
    wrapper.precision = torch.bfloat16
    with wrapper.optim_context(layer):
        assert layer(torch.ones(1, 1)).dtype is torch.bfloat16


def test_stepped_by_model_does_not_step() -> None:
    layer, wrapper = layer_and(SteppedByModel)
    wrapper.update_params(layer(torch.ones(1, 1)).sum())
    assert layer.weight.grad is None
