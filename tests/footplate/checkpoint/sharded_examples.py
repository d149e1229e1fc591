"""A sharded checkpoint for tests."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from footplate.checkpoint import sharded
from footplate.checkpoint.digest import DigestSink, read_digest
from footplate.checkpoint.saver import write_file
from footplate.checkpoint.serializable import _MARK, TensorShard, _memory_key, rebuild
from tests.footplate.checkpoint.packing import pack


def example() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weights = OrderedDict(
        weight=torch.randn(7, 3, generator=generator, dtype=torch.float64),
        bias=torch.randn(5, generator=generator).bfloat16(),
        count=torch.tensor(3),
        empty=torch.zeros(0, 4),
    )
    weights["tied"] = weights["weight"]
    weights._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    state = {0: {"step": torch.tensor(8.0), "exp_avg": torch.randn(7, 3, generator=generator)}}
    return {
        "meta": {"iter": 8, "epoch": 1},
        "state_dict": weights,
        "optimizer": {"state": state, "param_groups": [{"params": [0], "betas": (0.9, 0.99)}]},
        "run": {"random": [torch.arange(9, dtype=torch.uint8)]},
    }


def save(folder: Path, state: Any = None, count: int = 3) -> Path:
    """Saves a sharded checkpoint and returns its folder."""
    shard_state(example() if state is None else state, str(folder), count)
    return folder


def split_rows(state: Any, rank: int = 0, count: int = 1) -> tuple[Any, dict[str, TensorShard]]:
    """Splits a state as `split_state` splits one whose weights and optimizer state are sharded by rows."""
    shards: dict[str, TensorShard] = {}
    names: dict[Any, str] = {}

    def replace(name: str, value: Any) -> Any:
        is_split = isinstance(value, torch.Tensor) and value.dim() and value.numel() and value.is_floating_point()
        if not is_split or not name.startswith(("state_dict.", "optimizer.")):
            return value
        if (key := _memory_key(value)) not in names:
            names[key] = name
            length = -(-len(value) // count)
            begin = min(rank * length, len(value))
            offsets = (begin, *[0] * (value.dim() - 1))
            shards[name] = TensorShard(value[begin : begin + length], offsets, tuple(value.shape))
        return {_MARK: names[key]}

    return rebuild(state, replace), shards


def shard_state(state: Any, folder: str, count: int) -> None:
    """Saves a state as several ranks do, each of which writes a file."""
    parts = [split_rows(state, rank, count) for rank in range(count)]
    write: Any = sharded._FolderWriter.write_data

    def write_each(self: Any, plan: Any, planner: Any) -> Any:
        results = []
        for number in range(count):
            items = [item for item in plan.items if item.index.index % count == number]
            place = (number, plan.storage_data[1])
            part = dataclasses.replace(plan, items=items, storage_data=place)
            results += write(self, part, planner).value()
        future: Any = torch.futures.Future()
        future.set_result(results)
        return future

    with patch.object(sharded._FolderWriter, "write_data", write_each):
        sharded.save_shards(parts[0][0], [each for _, shards in parts for each in shards.items()], folder)


def change(folder: Path, change: Callable[[Any], None]) -> None:
    """Changes the content of the state of a sharded checkpoint, which gets a valid digest."""
    content = torch.load(folder / "state.pth", weights_only=True)
    change(content)
    write_file(content, str(folder / "state.pth"))


def spoil(folder: Path, pickled: bytes) -> None:
    """Replaces the only file with shards by a hostile one. All digests are valid."""
    (path,) = folder.glob("rank_0-*.pth")
    with path.open("wb") as file:
        sink = DigestSink(file)
        sink.write(pack({"archive/data.pkl": pickled, "archive/version": b"3\n"}))
        sink.finish()
    with path.open("rb") as file:
        digest = read_digest(file).sha256
    change(folder, lambda content: content["files"].update({path.name: digest}))
