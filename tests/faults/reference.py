"""The row of checkpoints written by mmengine and mmcv."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from footplate.checkpoint import OpaqueObject, load_checkpoint, weights_of
from footplate.errors import CheckpointError
from tests.faults.processes import in_child
from tests.faults.row import Fault, Finding, Trial

_DATA = Path(__file__).parent / "data"
FILES = (
    ("mmcv-1.7.2.pth", "mmcv-1.7.2.npz"),
    ("mmcv-1.7.2-old-form.pth", "mmcv-1.7.2.npz"),
    ("mmengine-0.10.7.pth", "mmengine-0.10.7.npz"),
)
COUNT = len(FILES)


def begin_reference(folder: Path) -> Trial:
    """Prepares trials of one file each."""

    def trial(seed: int, fault: Fault | None) -> Finding:
        return in_child(functools.partial(compare, seed, fault))

    return trial


def compare(number: int, fault: Fault | None = None) -> Finding:
    """Loads one file without trust, and compares it with the content that its own engine reads."""
    name, known = FILES[number]
    if fault is not None:
        fault()
    try:
        loaded = load_checkpoint(_DATA / name)
    except CheckpointError as error:
        return Finding(f"{name}: {error}")
    found = dict(_leaves("", loaded))
    compared = 0
    with np.load(_DATA / known) as expected:
        for path in (each for each in expected if not each.endswith("|kind")):
            kind = str(expected[f"{path}|kind"])
            if path not in found:
                return Finding(f"{name}: {path} is not there")
            if not _is_same(found[path], expected[path], kind):
                return Finding(f"{name}: {path} is another")
            compared += 1
    if set(weights_of(loaded)) != set(loaded["state_dict"]):
        return Finding(f"{name}: its weights are not all of them")
    return Finding("", {"compared": compared})


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the content of a checkpoint by path; of an object that was not built, its attributes."""
    inner: Any = None
    if isinstance(value, OpaqueObject):
        inner = value.items or (value.state if isinstance(value.state, Mapping) else {})
    elif isinstance(value, Mapping):
        inner = value
    elif isinstance(value, (list, tuple)):
        inner = dict(enumerate(value))
    if inner is None:
        yield path, value
    else:
        for key, each in inner.items():
            yield from _leaves(f"{path}/{key}" if path else str(key), each)


def _is_same(found: Any, expected: Any, kind: str) -> bool:
    if kind.startswith("scalar"):
        return bool(found == expected.item())
    if isinstance(found, torch.Tensor):
        if str(found.dtype) != kind:
            return False
        plain = found.detach().contiguous()
        found = (plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy()
    is_alike = found.dtype == expected.dtype and found.shape == expected.shape
    return bool(is_alike and found.tobytes() == expected.tobytes())
