"""Between our parts and the planners of torch.distributed.checkpoint, which import slowly and so are imported late."""

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
    """Plans the writing of parts.

    Args:
        parts: What this process holds, by the names of the tensors.
        error: What kept it from holding them: raised in planning, where the other processes learn of it.
        drop: Called before each part is written.
    """

    def __init__(
        self, parts: Mapping[str, Part], error: BaseException | None = None, *, drop: Callable[[], Any] = lambda: None
    ) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._parts = parts
        self._error = error
        self._drop = drop

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """Takes nothing else than the parts."""
        super().set_up_planner({}, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        """Returns an item for each part that is not empty.

        Raises:
            BaseException: The error.
        """
        if self._error is not None:
            raise self._error
        self.plan = SavePlan([_item(name, part) for name, part in self._parts.items() if part.tensor.numel()])
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Returns the values of a part."""
        self._drop()
        return self._parts[write_item.index.fqn].tensor


class Piece(NamedTuple):
    """A piece of a stored chunk and where it goes.

    Attributes:
        name: The tensor.
        chunk: The stored part of it.
        dtype: Of its elements.
        offsets: Where in the chunk the piece begins.
        lengths: Its shape.
        target: What to fill.
    """

    name: str
    chunk: Chunk
    dtype: torch.dtype
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    target: torch.Tensor


def pieces_for(targets: Mapping[str, torch.Tensor], tensors: Mapping[str, Tensors]) -> Iterator[Piece]:
    """Yields what has to be read to fill `targets`, whole tensors or this process' parts of them."""
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
