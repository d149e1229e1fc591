"""Adapts shards to the planners of torch.distributed.checkpoint; imported only when needed, because it is slow."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType

from footplate.checkpoint.sharded.layout import Chunk, Tensors
from footplate.checkpoint.sharded.splitting import Part


class PartPlanner(DefaultSavePlanner):
    """Plans the writing of shards.

    Args:
        parts: The shards of this rank, by tensor name.
        error: An error that occurred while the shards were prepared. It is raised during planning, which reports it
            to the other ranks.
        drop: Called before each shard is written.
    """

    def __init__(
        self, parts: Mapping[str, Part], error: BaseException | None = None, *, drop: Callable[[], Any] = lambda: None
    ) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._parts = parts
        self._error = error
        self._drop = drop

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """Ignores `state_dict`, because only the shards are written."""
        super().set_up_planner({}, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        """Returns a plan with an item for each non-empty shard.

        Raises:
            BaseException: The error.
        """
        if self._error is not None:
            raise self._error
        self.plan = SavePlan([_item(name, part) for name, part in self._parts.items() if part.tensor.numel()])
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Returns the values of a shard."""
        self._drop()
        return self._parts[write_item.index.fqn].tensor


class Piece(NamedTuple):
    """A piece of a stored shard and the tensor to read it into.

    Attributes:
        name: The name of the tensor.
        chunk: The stored shard.
        dtype: The dtype of the stored elements.
        offsets: The start of the piece in each dimension of the shard.
        lengths: The shape of the piece.
        target: The tensor to fill.
    """

    name: str
    chunk: Chunk
    dtype: torch.dtype
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    target: torch.Tensor


def pieces_for(targets: Mapping[str, torch.Tensor], tensors: Mapping[str, Tensors]) -> Iterator[Piece]:
    """Yields the pieces to read to fill `targets`, which are whole tensors or DTensors with the shards of this rank."""
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(targets), _metadata({name: tensors[name] for name in targets}), True)
    plan = planner.finish_plan(planner.create_global_plan([planner.create_local_plan()])[0])
    for item in plan.items:
        stored = tensors[item.storage_index.fqn]
        chunk = next(each for each in stored.chunks if each.offsets == tuple(item.storage_index.offset or ()))
        target = planner.resolve_tensor(item).detach()
        lengths = tuple(item.lengths)
        yield Piece(item.dest_index.fqn, chunk, stored.dtype, tuple(item.storage_offsets), lengths, target)


def _item(name: str, part: Part) -> WriteItem:
    offsets = torch.Size(part.offsets)
    data = TensorWriteData(
        chunk=ChunkStorageMetadata(offsets=offsets, sizes=part.tensor.size()),
        properties=TensorProperties(dtype=part.tensor.dtype),
        size=torch.Size(part.size),
    )
    return WriteItem(index=MetadataIndex(name, offsets), type=WriteItemType.SHARD, tensor_data=data)


def _metadata(tensors: Mapping[str, Tensors]) -> Metadata:
    return Metadata(
        {
            name: TensorStorageMetadata(
                TensorProperties(dtype=each.dtype),
                torch.Size(each.size),
                [ChunkStorageMetadata(torch.Size(part.offsets), torch.Size(part.sizes)) for part in each.chunks],
            )
            for name, each in tensors.items()
        }
    )
