"""Connects torch.distributed.checkpoint (DCP) with the folders of sharded checkpoints.

Import this module only when it is needed, because importing DCP is slow.
"""

import contextlib
import dataclasses
import io
import secrets
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future
from torch.serialization import load  # code bases replace `torch.load`, often with `weights_only=False`

from footplate import storage
from footplate.checkpoint.digest import HashingSink, sha256_of_file
from footplate.checkpoint.saver import commit_checkpoint
from footplate.checkpoint.serializable import Shard, bytes_in
from footplate.checkpoint.shard_layout import (
    LAYOUT,
    Chunk,
    FileDigest,
    Layout,
    StoredTensor,
    check_writable,
    is_committed,
    remove_own_files,
    remove_unfinished,
    verify_files,
    write_layout,
)
from footplate.errors import CheckpointError
from footplate.messages import format_bytes


class ShardPlanner(DefaultSavePlanner):
    """Plans the writing of shards.

    Args:
        shards: The names and shards of this rank.
        error: An error that occurred while the shards were prepared. It is raised during planning, which reports it
            to the other ranks.
    """

    def __init__(self, shards: Iterable[tuple[str, Shard]], error: BaseException | None = None) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._shards = {MetadataIndex(name, shard.offsets): shard for name, shard in shards}
        self._error = error

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """Ignores `state_dict`, because only the shards are written."""
        super().set_up_planner({}, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        """Returns a plan with an item for each non-empty shard.

        Raises:
            BaseException: The error that occurred while the shards were prepared.
        """
        if self._error is not None:
            raise self._error
        items = []
        for index, shard in self._shards.items():
            if shard.tensor.numel():
                data = TensorWriteData(
                    chunk=ChunkStorageMetadata(offsets=torch.Size(shard.offsets), sizes=shard.tensor.size()),
                    properties=TensorProperties(dtype=shard.tensor.dtype),
                    size=torch.Size(shard.size),
                )
                items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Returns the values of a shard."""
        return self._shards[write_item.index].tensor


class _Files:
    """The file system of a folder on any storage, in the form that DCP expects. Records the digests of new files."""

    def __init__(self) -> None:
        self.digests: dict[str, FileDigest] = {}
        self.error: OSError | None = None

    def concat_path(self, path: Any, suffix: str) -> str:
        return storage.join(path, suffix)

    @contextlib.contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        if mode == "rb":
            with storage.open_file(path) as source:
                yield source
            return
        try:
            with storage.atomic_file(path) as sink:
                stream = HashingSink(sink)
                yield stream
                if stream.error is not None:
                    raise stream.error
        except OSError as error:  # DCP ignores errors in its threads
            self.error = error
            return
        self.digests[storage.base_name(path)] = FileDigest(stream.size, stream.sha256.hexdigest())


class FolderWriter(FileSystemWriter):
    """Writes the shards of each rank to a file. The coordinator also writes the state and the layout.

    File names are unique to each save, so that the files of an existing checkpoint are not overwritten.

    Args:
        folder: The folder.
        state: Everything that is not sharded. Only the state of the coordinator is used.
        files: The number of files of each rank.
        clean_parent: Whether to remove unfinished saves in the parent folder. No other process may be saving there.
    """

    def __init__(self, folder: str, state: Mapping[str, Any], files: int = 1, *, clean_parent: bool = True) -> None:
        self.folder = storage.absolute(folder)
        super().__init__(self.folder, thread_count=files, sync_files=False)  # `storage` synchronizes them
        self._files = _Files()
        self.path, self.fs = self.folder, cast(Any, self._files)
        self._clean_parent = clean_parent
        self._save: str | None = None  # an id in the names of all files of this save
        self._state = state

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Returns the plan unchanged."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Creates the folder and assigns the beginning of file names to each rank.

        Raises:
            CheckpointError: There is too little space, or the folder contains files that footplate did not write.
        """
        check_writable(self.folder)
        self._save = save = secrets.token_hex(4)
        if self._clean_parent:
            remove_unfinished(storage.parent(self.folder), but=storage.base_name(self.folder))
        storage.make_dirs(self.folder)
        storage.clean_stale(self.folder)
        sizes = [cast(Any, item.tensor_data) for plan in plans for item in plan.items]
        needed = bytes_in(self._state) + sum(
            each.chunk.sizes.numel() * each.properties.dtype.itemsize for each in sizes
        )
        free = storage.free_space(self.folder)
        if free is not None and free < needed:
            raise CheckpointError(f"it needs {format_bytes(needed)}, but only {format_bytes(free)} are free")
        return [
            dataclasses.replace(plan, storage_data=SimpleNamespace(prefix=f"rank_{number}-{save}-"))
            for number, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        """Writes the shards of this rank to its file. Its digest is part of each result."""
        done: Future[list[WriteResult]] = Future()
        results = super().write_data(plan, planner).wait() if plan.items else []
        if self._files.error is not None:
            raise self._files.error
        if len(results) < len(plan.items):
            raise RuntimeError("torch has not written all shards")
        places = [(each.storage_data, self._files.digests[each.storage_data.relative_path]) for each in results]
        done.set_result(
            [dataclasses.replace(each, storage_data=place) for each, place in zip(results, places, strict=True)]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes the state file and then the layout. Writing the layout commits the checkpoint."""
        places = {result.index: result.storage_data for part in results for result in part}
        files = {place.relative_path: digest for place, digest in places.values()}
        name = f"state-{self._save}.pth"
        path = storage.join(self.folder, name)
        commit_checkpoint(self._state, path)
        files[name] = FileDigest(storage.status(path).size, sha256_of_file(path))
        tensors = {}
        for key, tensor in cast(Mapping[str, Any], metadata.state_dict_metadata).items():
            chunks = []
            for chunk in tensor.chunks:
                place, _ = places[MetadataIndex(key, chunk.offsets)]
                span = place.relative_path, place.offset, place.length
                chunks.append(Chunk(tuple(chunk.offsets), tuple(chunk.sizes), *span))
            tensors[key] = StoredTensor(tensor.properties.dtype, tuple(tensor.size), chunks)
        write_layout(self.folder, Layout(name, tensors, files))
        # The other files belong to the previous checkpoint and to failed saves.
        remove_own_files(self.folder, (name for name in storage.list_dir(self.folder) if name not in {*files, LAYOUT}))

    def drop(self) -> None:
        """Removes the files that this save wrote, unless the folder already contains a checkpoint."""
        with contextlib.suppress(OSError):
            if self._save is not None and not is_committed(self.folder):
                names = storage.list_dir(self.folder)
                own = [name for name in names if f"-{self._save}" in name]
                remove_own_files(self.folder, own)
                if own == names:
                    storage.remove_empty_folder(self.folder)


class FolderReader(FileSystemReader):
    """Reads shards from the folder of a sharded checkpoint.

    Args:
        folder: The folder.
        layout: Its layout, which replaces the pickled metadata of DCP.
        share: The share of the files that this rank verifies; see `verify_files`.
    """

    def __init__(self, folder: str, layout: Layout, share: tuple[int, int]) -> None:
        super().__init__(folder)
        self.path, self.fs = cast(Any, folder), cast(Any, _Files())
        self._folder, self._layout, self._share = folder, layout, share

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Verifies the files. DCP raises an error of one rank in all ranks.

        Raises:
            CheckpointError: A file does not match its checksum, or cannot be read.
        """
        verify_files(self._folder, self._layout, share=self._share)
        return plan

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> "Future[None]":
        """Reads the shards as data. DCP's own method calls whatever `torch.load` is at that moment."""
        places = cast(Mapping[MetadataIndex, Any], self.storage_data)

        def file_of(item: ReadItem) -> str:
            return str(places[item.storage_index].relative_path)

        for path, items in groupby(sorted(plan.items, key=file_of), file_of):
            with self.fs.create_stream(self.fs.concat_path(self.path, path), "rb") as stream:
                for item in items:
                    place = places[item.storage_index]
                    stream.seek(place.offset)
                    tensor = load(io.BytesIO(stream.read(place.length)), map_location="cpu", weights_only=True)
                    for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                        tensor = tensor.narrow(dim, start, length)
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(tensor)
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Returns the metadata from the layout."""
        tensors: dict[str, Any] = {}
        places: dict[MetadataIndex, Any] = {}
        for name, tensor in self._layout.tensors.items():
            chunks = []
            for chunk in tensor.chunks:
                chunks.append(ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes)))
                places[MetadataIndex(name, chunk.offsets)] = SimpleNamespace(
                    relative_path=chunk.file, offset=chunk.start, length=chunk.length, transform_descriptors=None
                )
            tensors[name] = TensorStorageMetadata(TensorProperties(dtype=tensor.dtype), torch.Size(tensor.size), chunks)
        return Metadata(tensors, storage_data=places)
