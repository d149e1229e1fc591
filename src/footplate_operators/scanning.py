"""The selective scan of Mamba, as in mamba_ssm and in VMamba's compiled modules.

Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces (2023).
"""

import torch
from torch import Tensor
from torch.nn import functional

from footplate_operators.sampling import gradients


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool | None = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the outputs of a linear recurrence whose coefficients depend on the input.

    With a state h of N values for each channel, h = exp(delta * A) * h + delta * B * u, and the output is the sum of
    C * h. It is computed in float32.

    Args:
        u: The inputs, of shape (batch, channels, length).
        delta: The step sizes, of the same shape.
        A: The decay, of shape (channels, N).
        B: The input coefficients, of shape (channels, N), (batch, N, length) or (batch, groups, N, length). Each group
            of channels that follow each other has its own.
        C: The output coefficients, of the same shapes.
        D: Adds D * u to the outputs; of shape (channels,).
        z: Multiplies the outputs by silu(z); of shape (batch, channels, length).
        delta_bias: Added to the step sizes; of shape (channels,).
        delta_softplus: Whether the step sizes are softplus(delta).
        return_last_state: Whether to return the last state, of shape (batch, channels, N), with the outputs.

    Raises:
        NotImplementedError: A is complex.
    """
    if A.is_complex():
        raise NotImplementedError("footplate's selective scan in PyTorch does not support a complex A.")
    dtype, channels, (u, delta) = u.dtype, u.shape[1], (u.float(), delta.float())
    if delta_bias is not None:
        delta = delta + delta_bias.float()[:, None]
    if delta_softplus:
        delta = functional.softplus(delta)
    b, c = (_coefficients(each, channels) for each in (B, C))
    state = u.new_zeros(len(u), channels, A.shape[1])
    outputs = []
    for position in range(u.shape[-1]):
        step = delta[..., position, None]
        state = torch.exp(step * A) * state + step * u[..., position, None] * _at(b, position)
        outputs.append((state * _at(c, position)).sum(-1))
    y = torch.stack(outputs, -1)
    if D is not None:
        y = y + D.float()[:, None] * u
    if z is not None:
        y = y * functional.silu(z.float())
    return (y.to(dtype), state) if return_last_state else y.to(dtype)


def _coefficients(values: Tensor, channels: int) -> Tensor:
    """Returns coefficients of shape (batch or 1, channels or 1, N, length or 1)."""
    values = values.float()
    if values.dim() == 2:
        return values[None, ..., None]
    if values.dim() == 3:
        return values[:, None]
    return values.repeat_interleave(channels // values.shape[1], 1)


def _at(coefficients: Tensor, position: int) -> Tensor:
    return coefficients[..., position if coefficients.shape[-1] > 1 else 0]


def selective_scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    nrows: int = 1,
    is_float: bool = False,
) -> list[Tensor]:
    """Returns the outputs of `selective_scan_fn` and the last state. The outputs are float32 if `is_float` is set."""
    result = selective_scan_fn(u, delta, A, B, C, D, None, delta_bias, delta_softplus, return_last_state=True)
    y, state = result
    return [y.float() if is_float else y, state]


def selective_scan_backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    grad_output: Tensor,
    state: Tensor,
    delta_softplus: bool,
    nrows: int = 1,
) -> list[Tensor | None]:
    """Returns the gradients of `selective_scan_forward` with respect to u, delta, A, B, C, D and the bias."""
    inputs = [u, delta, A, B, C, D, delta_bias]

    def scan(*present: Tensor) -> Tensor:
        values = iter(present)
        u, delta, A, B, C, D, bias = (None if each is None else next(values) for each in inputs)
        return selective_scan_fn(u, delta, A, B, C, D, None, bias, delta_softplus)  # type: ignore[arg-type,return-value]

    present = tuple(each for each in inputs if each is not None)
    found = iter(gradients(scan, present, grad_output.to(u.dtype)))
    return [None if each is None else next(found) for each in inputs]
