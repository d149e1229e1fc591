"""Compares the functions in place of flash-attn with attention that is written out."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate_operators import install


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = {*sys.modules}
    install()
    yield importlib.import_module("flash_attn")
    for name in {*sys.modules} - before:
        if name.partition(".")[0] in ("flash_attn", "mmcv"):
            del sys.modules[name]


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None, scale: float = 8**-0.5) -> Tensor:
    """Returns the attention of one sequence. The shapes are (S, H, D)."""
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1) for each in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if visible is not None:
        scores = scores.masked_fill(~visible, -1e9)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).requires_grad_()


def compare(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    gradients = [torch.autograd.grad((each * weights).sum(), inputs, retain_graph=True) for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_batches(flash_attn: Any) -> None:
    q, k, v = random(2, 3, 4, 8), random(2, 5, 2, 8), random(2, 5, 2, 8)
    expected = torch.stack([attend(*each) for each in zip(q, k, v, strict=True)])
    compare(flash_attn.flash_attn_func(q, k, v), expected, q, k, v)
    compare(flash_attn.flash_attn_kvpacked_func(q, torch.stack((k, v), 2), deterministic=True), expected, q, k, v)
    qkv = random(2, 5, 3, 2, 8)
    expected = torch.stack([attend(each[:, 0], each[:, 1], each[:, 2], scale=0.3) for each in qkv])
    compare(flash_attn.flash_attn_qkvpacked_func(qkv, 0.0, 0.3), expected, qkv)


# Rows are queries, columns keys.
@pytest.mark.parametrize(
    ("arguments", "visible"),
    [
        ({"causal": True}, [[1, 1, 1, 0], [1, 1, 1, 1]]),
        ({"window_size": (1, 0)}, [[0, 1, 1, 0], [0, 0, 1, 1]]),
        ({"window_size": (-1, 0)}, [[1, 1, 1, 0], [1, 1, 1, 1]]),
        ({"window_size": (0, 1)}, [[0, 0, 1, 1], [0, 0, 0, 1]]),
        ({"causal": True, "from_start": True}, [[1, 0, 0, 0], [1, 1, 0, 0]]),
    ],
)
def test_keys_are_hidden(flash_attn: Any, arguments: dict[str, Any], visible: list[list[int]]) -> None:
    q, k, v = random(1, 2, 1, 8), random(1, 4, 1, 8), random(1, 4, 1, 8)
    expected = attend(q[0], k[0], v[0], torch.tensor(visible, dtype=torch.bool))[None]
    compare(flash_attn.flash_attn_func(q, k, v, **arguments), expected, q, k, v)


def test_queries_without_keys_return_zeros(flash_attn: Any) -> None:
    q, k = random(1, 3, 1, 8), random(1, 1, 1, 8)
    found = flash_attn.flash_attn_func(q, k, k, causal=True)
    assert found[:, :2].abs().max() == 0
    assert found[:, 2].equal(k[:, 0])


def test_sequences_of_different_lengths(flash_attn: Any) -> None:
    interface = importlib.import_module("flash_attn.flash_attn_interface")
    q, kv = random(6, 2, 8), random(7, 2, 2, 8)
    k, v = kv.unbind(1)
    queries, keys = torch.tensor([0, 2, 2, 6], dtype=torch.int32), torch.tensor([0, 4, 7, 7], dtype=torch.int32)
    expected = torch.cat((attend(q[:2], k[:4], v[:4]), torch.zeros(4, 2, 8, dtype=q.dtype)))
    for name in ("flash_attn_varlen_kvpacked_func", "flash_attn_unpadded_kvpacked_func"):
        compare(getattr(interface, name)(q, kv, queries, keys, 4, 4, 0.0), expected, q, kv)
    first, second = (attend(part[:, 0], part[:, 0], part[:, 1]) for part in (kv[:4], kv[4:]))
    qkv = torch.cat((k[:, None], kv), 1)
    found = interface.flash_attn_varlen_qkvpacked_func(qkv, keys[:3], 4, 0.0)
    compare(found, torch.cat((first, second)), kv)
    with pytest.raises(NotImplementedError, match="does not support softcap, return_attn_probs"):
        interface.flash_attn_varlen_func(q, k, v, queries, keys, 4, 4, softcap=1.0, return_attn_probs=True)


def test_padding_is_removed_and_added(flash_attn: Any) -> None:
    padding = importlib.import_module("flash_attn.bert_padding")
    states = random(2, 4, 3)
    mask = torch.tensor([[True, True, False, True], [False, True, False, False]])
    joined, indices, bounds, longest = padding.unpad_input(states, mask)
    assert (indices.tolist(), bounds.tolist(), longest) == ([0, 1, 3, 5], [0, 3, 4], 3)
    assert bounds.dtype == torch.int32
    compare(joined, states[mask], states)
    compare(padding.pad_input(joined, indices, 2, 4), states * mask[..., None], states)
