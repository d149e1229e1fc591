"""Gradient clipping."""

from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.wrappers.gradient_clipping import build_clipper


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
