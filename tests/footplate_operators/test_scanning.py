"""Compares the selective scan with a plain loop over all numbers, on random inputs."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate_operators import create_extension, scanning

IMPORTS = """
import footplate_operators
footplate_operators.install()
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
print(selective_scan_fn.__module__)
"""


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def expected_outputs(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes each output as a sum of numbers. B and C have the shape (batch, groups, N, length)."""
    samples, channels, length = u.shape
    outputs, states = torch.zeros_like(u), torch.zeros(samples, channels, A.shape[1])
    for sample in range(samples):
        for channel in range(channels):
            group, state = channel * B.shape[1] // channels, [0.0] * A.shape[1]
            for t in range(length):
                step = softplus(float(delta[sample, channel, t] + bias[channel]))
                value, total = float(u[sample, channel, t]), float(D[channel] * u[sample, channel, t])
                for n in range(A.shape[1]):
                    decay = math.exp(step * float(A[channel, n]))
                    state[n] = decay * state[n] + step * float(B[sample, group, n, t]) * value
                    total += float(C[sample, group, n, t]) * state[n]
                gate = float(z[sample, channel, t])
                outputs[sample, channel, t] = total * gate / (1 + math.exp(-gate))
            states[sample, channel] = torch.tensor(state)
    return outputs, states


def scan_inputs(seed: int, groups: int = 2) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    shapes = {"u": (2, 4, 5), "delta": (2, 4, 5), "A": (4, 3), "B": (2, groups, 3, 5), "C": (2, groups, 3, 5)}
    shapes |= {"D": (4,), "z": (2, 4, 5), "delta_bias": (4,)}
    inputs = {name: torch.randn(*shape, generator=random) for name, shape in shapes.items()}
    return inputs | {"A": -inputs["A"].abs()}


@pytest.mark.parametrize("seed", range(5))
def test_scan_is_the_recurrence(seed: int) -> None:
    inputs = scan_inputs(seed)
    outputs, state = scanning.selective_scan_fn(**inputs, delta_softplus=True, return_last_state=True)
    expected, last = expected_outputs(*inputs.values())
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


def test_coefficients_without_groups_or_time() -> None:
    inputs = scan_inputs(0, groups=1)
    scan: Any = scanning.selective_scan_fn
    grouped = scan(**inputs)
    without_group = inputs | {"B": inputs["B"][:, 0], "C": inputs["C"][:, 0]}
    assert torch.equal(grouped, scan(**without_group))
    constant = torch.randn(4, 3)
    of_channels = constant.expand(2, 4, 3).unsqueeze(-1).expand(2, 4, 3, 5)
    assert torch.equal(
        scan(**inputs | {"B": constant, "C": constant}),
        scan(**inputs | {"B": of_channels, "C": of_channels}),
    )


def test_result_has_the_input_type() -> None:
    inputs = scan_inputs(0)
    half = inputs | {"u": inputs["u"].half(), "delta": inputs["delta"].half()}
    found = scanning.selective_scan_fn(**half)
    assert isinstance(found, Tensor)
    assert found.dtype == torch.float16
    with pytest.raises(NotImplementedError, match="complex"):
        scanning.selective_scan_fn(**inputs | {"A": inputs["A"] + 0j})


@pytest.mark.parametrize("name", ["selective_scan_cuda_core", "selective_scan_cuda_oflex"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_compiled_modules_return_the_gradients(name: str, has_bias: bool) -> None:
    module, inputs = create_extension(name), scan_inputs(1)
    names = ["u", "delta", "A", "B", "C", *(["D", "delta_bias"] if has_bias else [])]
    leaves: dict[str, Any] = {each: inputs[each].clone().requires_grad_() for each in names}
    expected = scanning.selective_scan_fn(**leaves, delta_softplus=True)
    assert isinstance(expected, Tensor)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, list(leaves.values()), grad)
    tensors = [inputs[each] if each in leaves else None for each in ("u", "delta", "A", "B", "C", "D", "delta_bias")]
    out, state, *_ = module.fwd(*tensors, True, 1, *([True] if "oflex" in name else []))
    torch.testing.assert_close(out, expected)
    found = [each for each in module.bwd(*tensors, grad, state, True, 1) if each is not None]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_import_of_missing_mamba_ssm() -> None:
    found = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "footplate_operators.scanning"
