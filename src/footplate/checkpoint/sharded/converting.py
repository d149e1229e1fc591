"""Converts sharded checkpoints to single files and back, without holding all tensors in memory."""

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch

from footplate import storage
from footplate.checkpoint import inert
from footplate.checkpoint._plain import to_plain
from footplate.checkpoint._seal import check_seal
from footplate.checkpoint._words import readable_size
from footplate.checkpoint.naming import SUFFIXES
from footplate.checkpoint.saving import commit_plain
from footplate.checkpoint.sharded.layout import Layout, check_files, is_folder, read_layout
from footplate.checkpoint.sharded.reading import fill, joined_state
from footplate.checkpoint.sharded.splitting import cut_evenly, split
from footplate.checkpoint.sharded.writing import save_all_parts
from footplate.checkpoint.verifying import opened
from footplate.checks import check_count
from footplate.errors import ArgumentError, CheckpointError
from footplate.storage import Sink

_DROP_BYTES = 16 << 20


def consolidate(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]") -> int:
    """Verifies a sharded checkpoint and writes it to a single file.

    The tensors are assembled in an unnamed temporary file in the folder of the target, which needs disk space for a
    second copy. Memory must hold the largest tensor.

    Args:
        source: The folder.
        target: The output file, for `load_checkpoint` or `torch.load(path, weights_only=True)`.

    Returns:
        The number of sharded tensors.

    Raises:
        CheckpointError: The folder is no whole checkpoint, or the file cannot be written.
        ArgumentError: They are not a folder of parts and a file whose name ends in .pth, .pt or .ckpt, or one lies in
            the other.
    """
    folder, path = os.fspath(source), os.fspath(target)
    _check_kinds(folder, path)
    storage.check_output(path, suffixes=SUFFIXES, inputs=[folder])
    layout = read_layout(folder)
    check_files(folder, layout)
    with _room_for(layout, storage.parent(storage.absolute(path))) as (tensors, drop):
        for name, tensor in tensors.items():
            fill(folder, layout, {name: tensor})
            drop()
        state = joined_state(folder, layout, tensors, torch.device("cpu"))
        commit_plain(to_plain(state), path, lambda sink: cast(Sink, _DroppingSink(sink, drop)))
    return len(layout.tensors)


def shard(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]", count: int) -> int:
    """Verifies a checkpoint file and writes it as a sharded checkpoint.

    A run with any number of ranks can load the result. Weights, optimizer state and averaged weights are split along
    their first dimension.

    Args:
        source: The file.
        target: The output folder, whose name ends in `.sharded`.
        count: The number of shards.

    Returns:
        The number of tensors that were split.

    Raises:
        CheckpointError: The file is no whole checkpoint, or the folder cannot be written: it may hold other files.
        ArgumentError: They are not a file and a folder of parts, or one lies in the other.
    """
    path, folder = os.fspath(source), os.fspath(target)
    check_count("parts", count)
    _check_kinds(folder, path)
    storage.check_output(folder, inputs=[path])
    with opened(path) as stream:
        seal = check_seal(stream)
        memory = _mapped(storage.local_path(path)) if seal.length and storage.is_local(path) else None
        content = inert.read(stream, seal=seal.length, mapped=memory).value
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' holds no dict", found=type(content).__name__)
    states = [split(content, cut_evenly(number, count)) for number in range(count)]
    rest: Any = to_plain(states[0][0])
    drop = (lambda: None) if memory is None else (lambda: memory.madvise(mmap.MADV_DONTNEED))
    save_all_parts(rest, [parts for _, parts in states], folder, drop=drop)
    return len(states[0][1])


def _mapped(path: str) -> mmap.mmap:
    """Returns a read-only memory map of a file."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _check_kinds(folder: str, path: str) -> None:
    if not is_folder(folder):
        raise ArgumentError("the name of a checkpoint in parts ends in .sharded", found=folder)
    if is_folder(path):
        raise ArgumentError("a checkpoint that is a single file does not end in .sharded", found=path)


@contextmanager
def _room_for(layout: Layout, folder: str) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
    """Yields uninitialized tensors in an unnamed temporary file, and a function that drops their pages from memory."""
    total = sum(each.nbytes for each in layout.tensors.values())
    local = storage.local_path(folder) if storage.is_local(folder) else None
    if local is not None:
        storage.make_dirs(local)
        free = storage.free_space(local) or 0
        if free < 2 * total:
            raise CheckpointError(
                f"it needs {readable_size(2 * total)}, and {readable_size(free)} are free in '{folder}'"
            )
    with tempfile.TemporaryFile(dir=local) as file:
        file.truncate(max(total, 1))
        memory = mmap.mmap(file.fileno(), max(total, 1))
        view, tensors, begin = memoryview(memory), {}, 0
        for name, each in layout.tensors.items():
            piece = view[begin : begin + each.nbytes]
            tensors[name] = torch.frombuffer(piece, dtype=each.dtype).view(each.size)
            begin += each.nbytes
        yield tensors, lambda: memory.madvise(mmap.MADV_DONTNEED)


class _DroppingSink:
    """Forwards bytes to a sink and regularly drops the source pages from memory."""

    def __init__(self, sink: Sink, drop: Any) -> None:
        self._sink = sink
        self._drop = drop
        self._since = 0

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:
        """Forwards bytes."""
        written = self._sink.write(data)
        self._since += written
        if self._since >= _DROP_BYTES:
            self._drop()
            self._since = 0
        return written

    def flush(self) -> None:
        """Flushes the sink."""
        self._sink.flush()
