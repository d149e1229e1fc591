"""Neighborhood attention, as in NATTEN: each query attends to a window of keys around it.

At a border, the window is moved inside. Source: Hassani et al., Neighborhood Attention Transformer (2023).
"""

import torch
from torch import Tensor


def na2d_qk(
    query: Tensor,
    key: Tensor,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    *,
    is_causal: bool = False,
    rpb: Tensor | None = None,
) -> Tensor:
    """Returns the scores of each query and the keys in its window.

    Args:
        query: Of shape (batch, heads, height, width, channels).
        key: Of the same shape.
        kernel_size: The height and width of a window.
        dilation: The distance between two keys of a window.
        is_causal: Must be False.
        rpb: The bias for each relative position, of shape (heads, 2 * height - 1, 2 * width - 1) of a window.

    Returns:
        The scores, of shape (batch, heads, height, width, keys in a window).

    Raises:
        NotImplementedError: `is_causal` is True.
        ValueError: A window does not fit into the map.
    """
    (rows, y), (columns, x) = _windows(key, kernel_size, dilation, is_causal)
    scores = torch.einsum("bnhwc,bnhwkc->bnhwk", query, _gather(key, rows, columns))
    if rpb is not None:
        scores = scores + rpb[:, y[:, None, :, None], x[None, :, None, :]].flatten(3)
    return scores


def na2d_av(
    attn: Tensor,
    value: Tensor,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    *,
    is_causal: bool = False,
) -> Tensor:
    """Returns the sums of the values in each query's window, weighted by `attn`. See `na2d_qk`."""
    (rows, _), (columns, _) = _windows(value, kernel_size, dilation, is_causal)
    return torch.einsum("bnhwk,bnhwkc->bnhwc", attn, _gather(value, rows, columns))


def natten2dqkrpb(
    query: Tensor, key: Tensor, rpb: Tensor | None, kernel_size: int | tuple[int, int], dilation: int = 1
) -> Tensor:
    """Like `na2d_qk`, with the arguments of older versions of NATTEN."""
    return na2d_qk(query, key, kernel_size, dilation, rpb=rpb)


def na2d(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    is_causal: bool = False,
    rpb: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Returns the attention of tensors of shape (batch, height, width, heads, channels). See `na2d_qk`."""
    query, key, value = (each.permute(0, 3, 1, 2, 4) for each in (query, key, value))
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = na2d_qk(query, key, kernel_size, dilation, is_causal=is_causal, rpb=rpb)
    return na2d_av(scores.softmax(-1), value, kernel_size, dilation).permute(0, 2, 3, 1, 4)


def _windows(
    keys: Tensor, kernel_size: int | tuple[int, int], dilation: int | tuple[int, int], is_causal: bool
) -> list[tuple[Tensor, Tensor]]:
    """Returns the positions (length, kernel size) of each window along both axes, and their indices into a bias."""
    if is_causal:
        raise NotImplementedError("footplate's neighborhood attention in PyTorch does not support is_causal.")
    sizes, steps = ((each, each) if isinstance(each, int) else each for each in (kernel_size, dilation))
    windows = []
    for length, size, step in zip(keys.shape[2:4], sizes, steps, strict=True):
        if size * step > length:
            raise ValueError(f"A window of {size} keys with a dilation of {step} does not fit into {length} keys.")
        position = torch.arange(length, device=keys.device)
        phase, index = position % step, position // step  # keys with the same phase form a sequence of their own
        count = (length - phase + step - 1) // step
        first = (index - size // 2).clamp(min=0).minimum(count - size)
        window = first[:, None] + torch.arange(size, device=keys.device)
        windows.append((phase[:, None] + step * window, window - index[:, None] + size - 1))
    return windows


def _gather(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns the values in each window, of shape (batch, heads, height, width, keys in a window, channels)."""
    return values[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)
