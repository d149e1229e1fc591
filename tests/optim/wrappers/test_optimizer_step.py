import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from footplate.errors import ArgumentError, NonFiniteError
from footplate.optim import OptimWrapper
from footplate.optim.wrappers.optimizer_step import GradientGuard, build_clipper, can_skip_on_device, unprofiled_step


def parameter(*gradient: float) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


@pytest.mark.parametrize(
    ("cfg", "gradient", "norm"),
    [
        ({"max_norm": 1.0}, [0.6, 0.8], 5.0),
        ({"max_norm": 10}, [3.0, 4.0], 5.0),
        ({"type": "norm", "max_norm": 2.0, "norm_type": "inf"}, [1.5, 2.0], 4.0),
        ({"max_norm": 3.5, "norm_type": 1}, [1.5, 2.0], 7.0),
        ({"type": "value", "clip_value": 3.5}, [3.0, 3.5], None),
    ],
)
def test_gradients_are_clipped_and_the_norm_is_returned(
    cfg: dict[str, Any], gradient: list[float], norm: float | None
) -> None:
    each = parameter(3.0, 4.0)
    found = build_clipper(cfg)([each])
    assert each.grad is not None
    assert each.grad.tolist() == pytest.approx(gradient, rel=1e-5)
    assert found is None if norm is None else float(found) == pytest.approx(norm)  # type: ignore[arg-type]


def parameters_with_gradients(*dtypes: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    made = [torch.zeros(5, 3, dtype=dtypes[at % len(dtypes)], requires_grad=True) for at in range(7)]
    for each in made[:-1]:
        each.grad = torch.randn(5, 3, dtype=each.dtype)
    return made


def gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    return [each.grad for each in parameters if each.grad is not None]


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
@pytest.mark.parametrize("norm_type", [1, 2, 3.5, "inf"])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64, torch.float32), (torch.bfloat16,)])
def test_gradients_and_norm_are_bit_equal_to_those_of_torch(
    max_norm: float, norm_type: Any, dtypes: tuple[torch.dtype, ...]
) -> None:
    ours, torchs = parameters_with_gradients(*dtypes), parameters_with_gradients(*dtypes)
    found = build_clipper({"max_norm": max_norm, "norm_type": norm_type})(ours)
    norm = nn.utils.clip_grad_norm_(torchs, max_norm, float(norm_type))
    assert found is not None
    assert torch.equal(found, norm)
    assert all(map(torch.equal, gradients(ours), gradients(torchs)))


def test_gradients_within_the_limit_are_not_modified() -> None:
    ours = parameters_with_gradients(torch.float32)
    before = [each._version for each in gradients(ours)]
    build_clipper({"max_norm": 1e9})(ours)
    assert [each._version for each in gradients(ours)] == before


def test_kind_of_gradients_may_change_between_steps() -> None:
    clip, both = build_clipper({"max_norm": 1.0}), (torch.float64, torch.bfloat16)
    clip(parameters_with_gradients(torch.float32))
    ours, torchs = parameters_with_gradients(*both)[:3], parameters_with_gradients(*both)[:3]
    found = clip(ours)
    assert found is not None
    assert torch.equal(found, nn.utils.clip_grad_norm_(torchs, 1.0))


def test_norm_without_gradients_is_zero() -> None:
    norm = build_clipper({"max_norm": 1.0})(parameters_with_gradients(torch.float32)[-1:])
    assert norm is not None
    assert norm.item() == 0


@pytest.mark.parametrize(
    ("cfg", "key", "suggestion"),
    [
        ({"max_norm": 1, "norm_type": "l2"}, "clip_grad.norm_type", None),
        ({"max_norm": 1, "norm_type": 0}, "clip_grad.norm_type", None),
        ({"max_norm": 1, "norm_typ": 2}, "clip_grad.norm_typ", "norm_type"),
        ({"type": "norms", "max_norm": 1}, "clip_grad.type", "norm"),
        ({"norm_type": 2}, "clip_grad.max_norm", None),
        ({"max_norm": "1"}, "clip_grad.max_norm", None),
        ({"max_norm": -1}, "clip_grad.max_norm", None),
        ({"type": "value", "max_norm": 1}, "clip_grad.max_norm", None),
        (1.0, "clip_grad", None),
    ],
)
def test_invalid_settings_are_refused(cfg: Any, key: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        build_clipper(cfg)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def parameter_with_complex_gradient() -> nn.Parameter:
    made = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    made.grad = torch.tensor([3 + 4j, 0, 12j], dtype=torch.complex64)
    return made


@pytest.mark.parametrize(("order", "norm"), [(2.0, 13.0), ("inf", 12.0), (1, 17.0)])
def test_complex_gradients_are_clipped_by_their_norm(order: Any, norm: float) -> None:
    each = parameter_with_complex_gradient()
    assert build_clipper({"max_norm": norm / 10, "norm_type": order})([each]) == pytest.approx(norm)
    torch.testing.assert_close(each.grad, torch.tensor([0.3 + 0.4j, 0, 1.2j], dtype=torch.complex64))


def test_complex_gradients_are_not_clipped_by_value() -> None:
    with pytest.raises(ArgumentError, match="^clipping by value does not support complex gradients"):
        build_clipper({"type": "value", "clip_value": 1.0})([parameter_with_complex_gradient()])


@pytest.mark.parametrize("cfg", [{"max_norm": 1.0}, {"type": "value", "clip_value": 1.0}])
def test_sparse_gradients_are_not_clipped(cfg: dict[str, Any]) -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    with pytest.raises(ArgumentError, match="^clip_grad does not support sparse gradients"):
        build_clipper(cfg)(list(table.parameters()))


def parameters(*gradients: float, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        each = nn.Parameter(torch.zeros(3, dtype=dtype))
        each.grad = torch.tensor([1.0, gradient, 2.0], dtype=dtype)
        made.append(each)
    return made


@pytest.mark.parametrize(
    ("gradients", "allowed"), [((1.0, -5.0), True), ((1.0, float("nan")), False), ((float("inf"), 1.0), False)]
)
def test_all_gradients_are_checked(gradients: tuple[float, ...], allowed: bool) -> None:
    params = parameters(*gradients)
    assert GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0) is allowed


def test_gradients_are_not_modified() -> None:
    params = parameters(1e30, -1e-30)
    before = [each.grad.clone() for each in params if each.grad is not None]
    GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0)
    for each, expected in zip(params, before, strict=True):
        assert each.grad is not None
        assert torch.equal(each.grad, expected)


def test_gradients_of_several_dtypes_are_checked() -> None:
    params = parameters(1.0) + parameters(float("nan"), dtype=torch.float64)
    assert not GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0)


def test_step_without_gradients_is_allowed() -> None:
    params = [nn.Parameter(torch.zeros(1))]
    assert GradientGuard("stop").allows_step(SGD(params, lr=0.1), 0)


@pytest.mark.parametrize(
    ("gradient", "norm", "allowed"), [(0.5, 1.0, True), (0.0, math.inf, True), (math.nan, math.nan, False)]
)
def test_gradients_are_checked_only_if_the_norm_is_non_finite(gradient: float, norm: float, allowed: bool) -> None:
    """The norm of finite gradients may overflow, so a non-finite norm does not suffice."""
    optimizer = SGD(parameters(gradient), lr=0.1)
    assert GradientGuard("skip").allows_step(optimizer, 0, torch.tensor(norm)) is allowed


def test_stop_raises_an_error_with_the_iteration() -> None:
    with pytest.raises(NonFiniteError, match="the gradients of iteration 7 are non-finite") as caught:
        GradientGuard("stop").allows_step(SGD(parameters(math.nan), lr=0.1), 7)
    assert (caught.value.iteration, caught.value.exit_code) == (7, 3)


def test_only_fused_optimizers_can_skip_on_the_device() -> None:
    fused = SGD(parameters(1.0), lr=0.1, fused=True)
    assert can_skip_on_device(fused)
    fused.param_groups[0]["fused"] = None  # as after loading a state
    assert not can_skip_on_device(fused)
    assert not can_skip_on_device(SGD(parameters(1.0), lr=0.1))


def test_warnings_are_logged_at_powers_of_two(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    guard, params = GradientGuard("skip"), parameters(float("nan"))
    for iteration in range(10):
        guard.allows_step(SGD(params, lr=0.1), iteration)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "The gradients of iteration 0 are non-finite: the step is skipped (1 so far)."
    assert [line.split()[4] for line in lines] == ["0", "1", "3", "7"]


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        GradientGuard("skipp")
    assert caught.value.suggestion == "skip"


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
