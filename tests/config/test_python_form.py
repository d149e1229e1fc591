from collections import OrderedDict
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.config.python_form import write_python


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": "AdamW", "lr": 0.001}, "dict(type='AdamW', lr=0.001)"),
        ({"a b": 1, "for": {"x": 2}}, "{'a b': 1, 'for': dict(x=2)}"),
        ({"ª": 1}, "{'ª': 1}"),
        ({"__debug__": 1}, "{'__debug__': 1}"),
        ({1: 2, None: (3,)}, "{1: 2, None: (3,)}"),
        ([], "[]"),
        ((), "()"),
        ({}, "dict()"),
        (float("inf"), "float('inf')"),
        (float("nan"), "float('nan')"),
        ({1, 2}, "{1, 2}"),
        (set(), "set()"),
        (frozenset({1}), "frozenset({1})"),
        ('it\'s "q"\n', "'it\\'s \"q\"\\n'"),
        ("{{ fileDirname }}/x", "'\\u007b{ fileDirname }}/x'"),
        (LazyObject("torch.optim.SGD"), "'torch.optim.SGD'"),
        (OrderedDict, "'collections.OrderedDict'"),
        (b"x", "b'x'"),
        (1e-05, "1e-05"),
    ],
)
def test_values_on_one_line(value: Any, text: str) -> None:
    assert write_python({"key": value}) == f"key = {text}\n"


def test_long_values_have_one_item_a_line() -> None:
    model = {
        "type": "EncoderDecoder",
        "backbone": {"type": "ResNet", "depth": 50, "out_indices": (0, 1, 2), "norm": {"type": "BN"}},
        "heads": [{"type": "FCNHead", "channels": 64}, {"type": "PSPHead", "channels": 128, "pool_scales": (1, 2)}],
    }
    assert (
        write_python({"model": model})
        == """\
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='ResNet', depth=50, out_indices=(0, 1, 2), norm=dict(type='BN')),
    heads=[
        dict(type='FCNHead', channels=64),
        dict(type='PSPHead', channels=128, pool_scales=(1, 2)),
    ],
)
"""
    )


@pytest.mark.parametrize(
    "mapping",
    [
        {"a-b": 1, "class": {"x": [1, (2,)]}, "ok": None},
        {"text": "{{ fileDirname }} {{$HOME:x}} {{'$A:1'}} {{_base_.x}} {{other}}"} | {"k": "\\d\n'\""},
        {"deep": [[[{"a": ({"b": {1: [2]}},)}]]], "wide": list(range(100))},
    ],
)
def test_what_is_written_reads_back_equal(mapping: dict[str, Any]) -> None:
    mapping = {key if key != "text" else "words": value for key, value in mapping.items()}
    assert Config.fromstring(write_python(mapping), ".py").to_dict() == mapping
