"""Mixed precision."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from footplate.errors import NonFiniteError
from footplate.optim.wrappers import AmpOptimWrapper


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 1)
        self.seen: list[torch.dtype] = []

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        self.seen.append(outputs.dtype)
        return outputs.float().pow(2).mean()


def step(model: Net, wrapper: AmpOptimWrapper, scale: float = 1.0) -> None:
    with wrapper.optim_context(model):
        loss = model(torch.ones(2, 8)) * scale
    wrapper.update_params(loss)


@pytest.mark.parametrize(
    ("loss_scale", "first", "after_overflow"),
    [("dynamic", 65536.0, 32768.0), (512, 512.0, 512.0), ({"init_scale": 64.0}, 64.0, 32.0)],
)
def test_overflow_skips_the_step_and_lowers_a_dynamic_scale(
    loss_scale: Any, first: float, after_overflow: float
) -> None:
    model = Net()
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), loss_scale=loss_scale, dtype="float16")
    step(model, wrapper)
    assert wrapper.loss_scaler.get_scale() == first
    before = model.layer.weight.detach().clone()
    step(model, wrapper, scale=float("inf"))
    assert torch.equal(model.layer.weight, before)
    assert wrapper.loss_scaler.get_scale() == after_overflow


def test_steps_are_skipped_without_reading_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net()
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), dtype="float16", on_nonfinite="skip")
    monkeypatch.delattr(type(wrapper.loss_scaler), "get_scale")  # on an accelerator, it waits for the device
    before = model.layer.weight.detach().clone()
    step(model, wrapper, scale=float("inf"))
    assert torch.equal(model.layer.weight, before)


def test_gradients_are_clipped_after_unscaling() -> None:
    model, reference = Net(), Net()
    step(model, AmpOptimWrapper(SGD(model.parameters(), lr=1.0), dtype="float16", clip_grad={"max_norm": 1e-3}))
    optimizer = SGD(reference.parameters(), lr=1.0)
    step(reference, AmpOptimWrapper(optimizer, dtype="bfloat16", clip_grad={"max_norm": 1e-3}))
    start = Net().layer.weight
    torch.testing.assert_close(model.layer.weight - start, reference.layer.weight - start, rtol=1e-2, atol=1e-6)


def test_loss_scale_is_saved_and_loaded() -> None:
    model = Net()
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), dtype="float16")
    step(model, wrapper, scale=float("inf"))
    state = wrapper.state_dict()
    again = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), dtype="float16")
    again.load_state_dict(state)
    assert again.loss_scaler.get_scale() == 32768.0
    plain = AmpOptimWrapper(SGD(model.parameters(), lr=0.01), dtype="bfloat16")
    plain.load_state_dict(state)
    assert "loss_scaler" not in plain.state_dict()


@pytest.mark.parametrize(("loss_scale", "stops"), [("dynamic", False), ({"init_scale": 1.0}, True), (512.0, True)])
def test_stop_applies_only_if_a_lower_scale_does_not_help(loss_scale: Any, stops: bool) -> None:
    model = Net()
    wrapper = AmpOptimWrapper(
        SGD(model.parameters(), lr=0.01), loss_scale=loss_scale, dtype="float16", on_nonfinite="stop"
    )
    step(model, wrapper)
    before = model.layer.weight.detach().clone()
    if stops:
        with pytest.raises(NonFiniteError, match="the gradients in iteration .* are non-finite"):
            step(model, wrapper, scale=float("inf"))
    else:
        step(model, wrapper, scale=float("inf"))
    assert torch.equal(model.layer.weight, before)


def test_step_without_gradients_keeps_the_scale() -> None:
    """While a FreezeHook freezes all parameters of one of several optimizers, its loss still has a graph."""
    frozen, other = nn.Linear(2, 1).requires_grad_(False), nn.Linear(1, 1)
    wrapper = AmpOptimWrapper(SGD(frozen.parameters(), lr=0.01), dtype="float16")
    wrapper.isolated = True
    wrapper.backward(other(frozen(torch.ones(1, 2))).sum())
    wrapper.step()
    assert wrapper.loss_scaler.get_scale() == 2.0**16
