import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from footplate.errors import ArgumentError
from footplate.optim import OptimWrapper
from footplate.optim.wrappers.unprofiled_step import unprofiled_step


def optimizer_of(kind: type[Optimizer] = SGD) -> Optimizer:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.tensor([1.0, 2.0, 3.0])
    return kind([parameter], lr=0.1)  # type: ignore[call-arg]


def weights(optimizer: Optimizer) -> Tensor:
    found: Tensor = optimizer.param_groups[0]["params"][0]
    return found.detach()


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_step_is_bit_equal_and_has_no_profiler_entry(kind: type[Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = optimizer_of(kind), optimizer_of(kind)
    one.step()
    entries: list[str] = []
    monkeypatch.setattr(record_function, "__enter__", lambda entry: entries.append(entry.name))
    unprofiled_step(other)()
    assert entries == []
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), torch.ones(3))


def test_step_has_an_entry_if_a_profiler_is_active() -> None:
    with torch.autograd.profiler.profile() as profile:
        unprofiled_step(optimizer_of())()
    assert "Optimizer.step#SGD.step" in [event.key for event in profile.key_averages()]


@pytest.mark.parametrize(
    "register",
    [
        lambda optimizer, hook: optimizer.register_step_pre_hook(hook),
        lambda optimizer, hook: optimizer.register_step_post_hook(hook),
        lambda optimizer, hook: register_optimizer_step_pre_hook(hook),
        lambda optimizer, hook: register_optimizer_step_post_hook(hook),
    ],
)
def test_hooks_are_called(register: Callable[..., Any]) -> None:
    optimizer, called = optimizer_of(), []
    handle = register(optimizer, lambda *given: called.append(given[0]))
    unprofiled_step(optimizer)()
    handle.remove()
    unprofiled_step(optimizer)()
    assert called == [optimizer]


def counted(step: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    @functools.wraps(step)
    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append("called")
        return step(*args, **kwargs)

    return counting


def test_other_wrappers_of_step_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """functools.wraps copies the attributes that torch sets on its wrapper."""
    optimizer, calls = optimizer_of(), list[str]()
    optimizer.step = counted(optimizer.step, calls)  # type: ignore[method-assign]
    unprofiled_step(optimizer)()
    assert len(calls) == 1
    monkeypatch.setattr(SGD, "step", counted(SGD.step, calls))
    unprofiled_step(optimizer_of())()
    assert len(calls) == 2


def test_arguments_and_result_are_passed_through() -> None:
    optimizer = optimizer_of()
    assert unprofiled_step(optimizer)(closure=lambda: 2.5) == 2.5


def test_optimizer_that_needs_a_closure_is_rejected() -> None:
    layer = nn.Linear(2, 1)
    wrapper = OptimWrapper(torch.optim.LBFGS(layer.parameters(), lr=0.1))
    with pytest.raises(ArgumentError, match="^the optimizer LBFGS needs a closure") as caught:
        wrapper.update_params(layer(torch.ones(3, 2)).sum())
    assert caught.value.key == "optim_wrapper.optimizer.type"

    def closure() -> Tensor:
        wrapper.zero_grad()
        loss: Tensor = layer(torch.ones(3, 2)).pow(2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    before = closure().item()
    wrapper.update_params(layer(torch.ones(3, 2)).pow(2).sum(), step_kwargs={"closure": closure})
    assert closure().item() < before


UNSUPPORTED = [
    (torch.optim.SparseAdam, False, "SparseAdam does not support dense gradients"),
    (torch.optim.Adam, True, "Adam does not support sparse gradients"),
    (torch.optim.AdamW, True, "Adam does not support sparse gradients"),
]


@pytest.mark.parametrize(("kind", "sparse", "message"), UNSUPPORTED)
def test_optimizer_that_does_not_support_the_gradients_is_rejected(kind: Any, sparse: bool, message: str) -> None:
    table = nn.Embedding(4, 2, sparse=sparse)
    wrapper = OptimWrapper(kind(list(table.parameters()), lr=0.1))
    with pytest.raises(ArgumentError, match=f"^{message}") as caught:
        wrapper.update_params(table(torch.tensor([1, 1])).sum())
    assert caught.value.key == "optim_wrapper.optimizer.type"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AliG", "the optimizer AliG needs a closure that recomputes the loss"),
        ("SpectralSphere", "the optimizer SpectralSphere cannot train this model: ValueError: .* only supports 2D"),
    ],
)
def test_optimizer_of_another_package_that_cannot_train_the_model_is_rejected(name: str, message: str) -> None:
    kind = getattr(pytest.importorskip("pytorch_optimizer"), name)
    layer = nn.Linear(2, 1)
    with pytest.raises(ArgumentError, match=f"^{message}") as caught:
        OptimWrapper(kind(layer.parameters())).update_params(layer(torch.ones(3, 2)).sum())
    assert caught.value.key == "optim_wrapper.optimizer.type"


def test_error_of_a_user_defined_step_is_raised_unchanged() -> None:
    class Failing(SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            raise RuntimeError("out of order")

    layer = nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="^out of order$"):
        OptimWrapper(Failing(layer.parameters(), lr=0.1)).update_params(layer(torch.ones(3, 2)).sum())
