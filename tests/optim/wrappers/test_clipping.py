"""Gradient clipping."""

from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.wrappers.clipping import make_clip


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
def test_clips(cfg: dict[str, Any], gradient: list[float], norm: float | None) -> None:
    each = parameter(3.0, 4.0)
    found = make_clip(cfg)([each])
    assert each.grad is not None
    assert each.grad.tolist() == pytest.approx(gradient, rel=1e-5)
    assert found is None if norm is None else float(found) == pytest.approx(norm)  # type: ignore[arg-type]


def several(*dtypes: torch.dtype) -> list[torch.Tensor]:
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
def test_gradients_and_norm_are_torch_s_to_the_last_bit(
    max_norm: float, norm_type: Any, dtypes: tuple[torch.dtype, ...]
) -> None:
    ours, torchs = several(*dtypes), several(*dtypes)
    found = make_clip({"max_norm": max_norm, "norm_type": norm_type})(ours)
    norm = nn.utils.clip_grad_norm_(torchs, max_norm, float(norm_type))
    assert found is not None
    assert torch.equal(found, norm)
    assert all(map(torch.equal, gradients(ours), gradients(torchs)))


def test_gradients_within_the_bound_are_not_written_to() -> None:
    ours = several(torch.float32)
    before = [each._version for each in gradients(ours)]
    make_clip({"max_norm": 1e9})(ours)
    assert [each._version for each in gradients(ours)] == before


def test_other_gradients_than_at_the_last_step() -> None:
    clip, both = make_clip({"max_norm": 1.0}), (torch.float64, torch.bfloat16)
    clip(several(torch.float32))
    ours, torchs = several(*both)[:3], several(*both)[:3]
    found = clip(ours)
    assert found is not None
    assert torch.equal(found, nn.utils.clip_grad_norm_(torchs, 1.0))


def test_no_gradients_have_the_norm_of_nothing() -> None:
    norm = make_clip({"max_norm": 1.0})(several(torch.float32)[-1:])
    assert norm is not None
    assert norm.item() == 0


@pytest.mark.parametrize(
    ("cfg", "key", "suggestion"),
    [
        ({"max_norm": 1, "norm_type": "l2"}, "clip_grad.norm_type", None),
        ({"max_norm": 1, "norm_type": 0}, "clip_grad.norm_type", None),
        ({"max_norm": 1, "norm_typ": 2}, "clip_grad.norm_typ", "norm_type"),
        ({"type": "norms", "max_norm": 1}, "clip_grad.type", None),
        ({"norm_type": 2}, "clip_grad.max_norm", None),
        ({"max_norm": "1"}, "clip_grad.max_norm", None),
        ({"max_norm": -1}, "clip_grad.max_norm", None),
        ({"type": "value", "max_norm": 1}, "clip_grad.max_norm", None),
        (1.0, "clip_grad", None),
    ],
)
def test_settings_without_sense(cfg: Any, key: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        make_clip(cfg)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def complex_parameter() -> nn.Parameter:
    made = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    made.grad = torch.tensor([3 + 4j, 0, 12j], dtype=torch.complex64)
    return made


@pytest.mark.parametrize(("order", "norm"), [(2.0, 13.0), ("inf", 12.0), (1, 17.0)])
def test_complex_gradients_are_clipped_by_their_norm(order: Any, norm: float) -> None:
    each = complex_parameter()
    assert make_clip({"max_norm": norm / 10, "norm_type": order})([each]) == pytest.approx(norm)
    torch.testing.assert_close(each.grad, torch.tensor([0.3 + 0.4j, 0, 1.2j], dtype=torch.complex64))


def test_complex_gradients_are_not_clipped_by_value() -> None:
    with pytest.raises(ArgumentError, match="^clip_grad by value does not support complex gradients"):
        make_clip({"type": "value", "clip_value": 1.0})([complex_parameter()])


@pytest.mark.parametrize("cfg", [{"max_norm": 1.0}, {"type": "value", "clip_value": 1.0}])
def test_sparse_gradients_are_not_clipped(cfg: dict[str, Any]) -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    with pytest.raises(ArgumentError, match="^clip_grad does not support sparse gradients"):
        make_clip(cfg)(list(table.parameters()))
