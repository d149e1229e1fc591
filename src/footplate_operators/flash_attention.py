"""Replaces the functions of flash-attn by torch's scaled dot product attention.

Tensors have the shape (B, S, H, D): batch, sequence, heads and dimensions. Functions named `varlen` or `unpadded` take
the sequences of a batch one after another, as a tensor of shape (T, H, D), and their bounds. Any device and floating
type is accepted.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    *,
    from_start: bool = False,
    **unsupported: Any,
) -> Tensor:
    """Returns the attention of queries to keys and values.

    Args:
        q: The queries, of shape (B, S, H, D).
        k: The keys. They may have fewer heads, each for several heads of the queries.
        v: The values.
        dropout_p: The fraction of attention weights to set to 0.
        softmax_scale: The factor for the scores; by default, 1 / sqrt(D).
        causal: Whether to hide the keys after the query's position. The last query has the position of the last key.
        window_size: The number of visible keys before and after the query's position; -1 for all.
        from_start: Whether the first query has the position of the first key, as in flash-attn 1.
        unsupported: Arguments that must not differ from the default, such as `softcap` and `alibi_slopes`.
    """
    refused = [name for name, value in unsupported.items() if value and name != "deterministic"]
    if refused:
        raise NotImplementedError(f"footplate's PyTorch version of flash-attn does not support {', '.join(refused)}.")
    before, after = window_size
    is_whole = before < 0 and after < 0 and not causal
    first = 0 if from_start else k.shape[1] - q.shape[1]
    mask = None if is_whole else _mask(q, k, first, before, 0 if causal else after)
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    found = functional.scaled_dot_product_attention(
        q, k, v, mask, dropout_p, scale=softmax_scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return found.transpose(1, 2)


def _mask(q: Tensor, k: Tensor, first: int, before: int, after: int) -> Tensor:
    """Returns a tensor of shape (queries, keys) that is True where a key is visible.

    Args:
        q: The queries.
        k: The keys.
        first: The position of the first query among the keys.
        before: The number of visible keys before a query's position, or -1.
        after: The number of visible keys after it, or -1.
    """
    places = torch.arange(first, first + q.shape[1], device=q.device)[:, None]
    distances = torch.arange(k.shape[1], device=q.device) - places
    visible = torch.ones_like(distances, dtype=torch.bool)
    if before >= 0:
        visible &= distances >= -before
    if after >= 0:
        visible &= distances <= after
    return visible


def flash_attn_qkvpacked_func(qkv: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Like `flash_attn_func`, for a tensor of shape (B, S, 3, H, D)."""
    q, k, v = qkv.unbind(-3)
    return flash_attn_func(q, k, v, *args, **kwargs)


def flash_attn_kvpacked_func(q: Tensor, kv: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Like `flash_attn_func`, for keys and values in a tensor of shape (B, S, 2, H, D)."""
    k, v = kv.unbind(-3)
    return flash_attn_func(q, k, v, *args, **kwargs)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Returns the attention within each sequence.

    Args:
        q: The queries of all sequences, of shape (T, H, D).
        k: The keys of all sequences.
        v: The values of all sequences.
        cu_seqlens_q: The bounds of the sequences in `q`, of shape (B + 1,).
        cu_seqlens_k: The bounds of the sequences in `k` and `v`.
        max_seqlen_q: Ignored.
        max_seqlen_k: Ignored.
        args: Further arguments for `flash_attn_func`.
        kwargs: Further arguments for `flash_attn_func`.
    """
    queries = q.tensor_split(cu_seqlens_q[1:-1].tolist())
    keys, values = (each.tensor_split(cu_seqlens_k[1:-1].tolist()) for each in (k, v))
    sequences = zip(queries, keys, values, strict=True)
    found = [flash_attn_func(q[None], k[None], v[None], *args, **kwargs)[0] for q, k, v in sequences]
    return torch.cat(found)


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, *args: Any, **kwargs: Any
) -> Tensor:
    """Like `flash_attn_varlen_func`, for a tensor of shape (T, 3, H, D)."""
    q, k, v = qkv.unbind(-3)
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, *args, **kwargs)


def flash_attn_varlen_kvpacked_func(q: Tensor, kv: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Like `flash_attn_varlen_func`, for keys and values in a tensor of shape (T, 2, H, D)."""
    k, v = kv.unbind(-3)
    return flash_attn_varlen_func(q, k, v, *args, **kwargs)


flash_attn_unpadded_func = partial(flash_attn_varlen_func, from_start=True)
flash_attn_unpadded_qkvpacked_func = partial(flash_attn_varlen_qkvpacked_func, from_start=True)
flash_attn_unpadded_kvpacked_func = partial(flash_attn_varlen_kvpacked_func, from_start=True)


def unpad_input(
    hidden_states: Tensor, attention_mask: Tensor, unused_mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Joins the sequences of a batch without their padding.

    Args:
        hidden_states: A tensor of shape (B, S, ...).
        attention_mask: Whether each element is part of its sequence, of shape (B, S).
        unused_mask: Not supported.

    Returns:
        The elements, of shape (T, ...); their indices in the flat batch; the bounds of the sequences; and the length of
        the longest sequence.
    """
    if unused_mask is not None:
        raise NotImplementedError("footplate's PyTorch version of flash-attn does not support unused_mask.")
    lengths = attention_mask.sum(-1, dtype=torch.int32)
    indices = attention_mask.flatten().nonzero().flatten()
    bounds = functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    return index_first_axis(hidden_states.flatten(0, 1), indices), indices, bounds, int(lengths.max())


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """Reverses `unpad_input`, with zeros as padding. Returns a tensor of shape (batch, seqlen, ...)."""
    padded = hidden_states.new_zeros((batch * seqlen, *hidden_states.shape[1:]))
    return padded.index_copy(0, indices, hidden_states).reshape(batch, seqlen, *hidden_states.shape[1:])


def index_first_axis(input: Tensor, indices: Tensor) -> Tensor:  # noqa: A002 - flash-attn's name
    """Returns the rows at the indices."""
    return input[indices]
