"""Reads the files that `torch.save` writes: zip archives, and the older format used before PyTorch 1.6.

Classes and functions that a file refers to are neither imported nor called.

Source: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

import io
import mmap
import sys
import tarfile
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import torch

from footplate.checkpoint.digest import Digest, read_digest, verify_digest
from footplate.checkpoint.memory_budget import Budget
from footplate.checkpoint.pickle_constructors import (
    CONSTANTS,
    CONSTRUCTORS,
    Storage,
    empty_memory,
    mapped_memory,
    storage_dtype,
)
from footplate.checkpoint.unpickler import Name, unpickle
from footplate.checkpoint.zip_archive import Archive, read_fully
from footplate.errors import CheckpointDamagedError, CheckpointError

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_LONGEST_LINE = 1 << 16
_ZIP_START = b"PK\x03\x04"


class Content(NamedTuple):
    """The content of a file."""

    value: Any  # the object that was saved
    opaque_names: list[str]  # the class names of the objects in the file that were not instantiated
    digest: Digest  # the digest that the file records


def read_content(
    stream: IO[bytes], *, device: "str | torch.device" = "cpu", mapped: "mmap.mmap | None" = None
) -> Content:
    """Verifies an open file and returns its content. Nothing in it is imported or called.

    If an archive has no digest, the checksums of its members are verified instead.

    Args:
        stream: The file, at any position.
        device: The device for the tensors. With 'meta', only their shapes are read, and the digest is not verified.
        mapped: A memory map of the file, for an archive with a digest. The tensors are views of this memory.

    Raises:
        CheckpointDamagedError: The file is truncated or corrupted.
        CheckpointError: The file is not a checkpoint, or it is malicious.
    """
    device = torch.device(device)
    digest = read_digest(stream) if device.type == "meta" else verify_digest(stream)
    budget = Budget(stream.seek(0, 2))
    stream.seek(0)
    start = stream.read(len(_ZIP_START))
    reader: _ArchiveReader | _OldReader
    if start == _ZIP_START:
        archive = Archive(stream, comment=digest.length)
        reader = _ArchiveReader(archive, device, not digest.length, mapped, budget)
    elif start[:1] == b"\x80":
        if _is_tar(stream):  # `torch.load` tries tar before pickle
            raise CheckpointDamagedError("it is ambiguous, because PyTorch would read it as a tar archive")
        reader = _OldReader(stream, device, budget)
    elif _is_tar(stream):
        raise CheckpointError(
            "it is a tar archive, a format from before PyTorch 0.2 that footplate does not support",
            notes=["If you trust the file, load it with `torch.load(path, weights_only=False)`, and save it again."],
        )
    else:
        raise CheckpointDamagedError("it is not a checkpoint, or its beginning is damaged")
    value = reader.read()
    return Content(value, budget.check_copies(value), digest)


def _is_tar(stream: IO[bytes]) -> bool:
    """Checks whether an open file starts with the header of a tar archive, and rewinds the file."""
    stream.seek(0)
    try:
        tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    finally:
        stream.seek(0)
    return True


def verify_checksums(stream: IO[bytes]) -> None:
    """Verifies the checksums of an archive.

    Files saved by PyTorch before 1.6 have no checksums, so they are read completely instead.

    Raises:
        CheckpointDamagedError: The file is truncated or corrupted.
        CheckpointError: The file is not a checkpoint.
    """
    stream.seek(0)
    if stream.read(len(_ZIP_START)) == _ZIP_START:
        Archive(stream).verify()
    else:
        read_content(stream)


class _Reader:
    """The base class of the readers of both formats. Reads pickles and caches the memory of each storage."""

    def __init__(self, device: torch.device, budget: Budget) -> None:
        self._device = device
        self._budget = budget
        self._memories: dict[str, torch.Tensor] = {}

    def _unpickle(self, stream: IO[bytes], find_storage: Callable[[Any], Any]) -> Any:
        return unpickle(stream, CONSTRUCTORS, constants=CONSTANTS, persistent=find_storage, budget=self._budget)


class _ArchiveReader(_Reader):
    def __init__(
        self, archive: Archive, device: torch.device, verify: bool, mapped: "mmap.mmap | None", budget: Budget
    ) -> None:
        super().__init__(device, budget)
        self._archive = archive
        self._verify = verify
        self._mapped = mapped

    def read(self) -> Any:
        if "byteorder" in self._archive:
            order = self._archive.read("byteorder", verify=self._verify).decode("ascii", "replace")
            if order != sys.byteorder:
                raise CheckpointError(f"it was written on a machine with a different byte order ('{order}')")
        pickled = self._archive.read("data.pkl", verify=self._verify)
        self._budget.take(len(pickled))
        return self._unpickle(io.BytesIO(pickled), self._find_storage)

    def _find_storage(self, identity: Any) -> Storage:
        kind, key, count, _ = _checked_identity(identity, length=5)
        dtype = storage_dtype(kind)
        if key not in self._memories:
            self._memories[key] = self._read_memory(f"data/{key}")
        memory = self._memories[key]
        if memory.numel() != count * dtype.itemsize:
            raise _wrong_size(key)
        return Storage(memory, dtype)

    def _read_memory(self, name: str) -> torch.Tensor:
        size = self._archive.size_of(name)
        if self._device.type == "meta":
            return empty_memory(size, "meta")
        if self._mapped is not None and size:
            return mapped_memory(self._mapped, *self._archive.place_of(name))
        self._budget.take(size)
        memory = empty_memory(size)
        self._archive.read_into(name, memory.numpy().data, verify=self._verify)
        return memory.to(self._device)


class _OldReader(_Reader):
    """Reads files saved by PyTorch before 1.6.

    In these files, the storages follow the object that uses them. The object is therefore read twice: first to find the
    sizes of its storages, and again with their content.
    """

    def __init__(self, stream: IO[bytes], device: torch.device, budget: Budget) -> None:
        super().__init__(device, budget)
        self._length = stream.seek(0, 2)
        stream.seek(0)
        self._stream = stream
        self._sizes: dict[str, tuple[int, int]] = {}

    def read(self) -> Any:
        first = self._next_pickle()
        if type(first) is not int or first != _OLD_MAGIC:
            return first
        self._next_pickle()  # the protocol version, which never changed
        system = self._next_pickle()
        if isinstance(system, dict) and system.get("little_endian") is not (sys.byteorder == "little"):
            raise CheckpointError("it was written on a machine with a different byte order")
        start, used = self._stream.tell(), self._budget.used
        value = self._next_pickle()
        if self._device.type != "meta":
            self._budget.used, value = used, None  # it is read again
            keys = self._next_pickle()
            self._memories = {key: self._read_memory(key).to(self._device) for key in keys}
            self._stream.seek(start)
            value = self._next_pickle()
        return value

    def _next_pickle(self) -> Any:
        return self._unpickle(_BoundedStream(self._stream, self._length), self._find_storage)  # type: ignore[arg-type]

    def _find_storage(self, identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[:1] == ("module",) and len(identity) > 1:
            return identity[1]
        kind, key, count, view = _checked_identity(identity, length=6)
        if view:
            raise CheckpointError("it contains views of storages, which only very old versions of PyTorch wrote")
        dtype = storage_dtype(kind)
        size = count * dtype.itemsize
        if self._sizes.setdefault(key, (count, size)) != (count, size) or size > self._length:
            raise _wrong_size(key)
        memory = self._memories.get(key)
        return Storage(empty_memory(size, "meta") if memory is None else memory, dtype)

    def _read_memory(self, key: Any) -> torch.Tensor:
        if type(key) is not str or key not in self._sizes:
            raise CheckpointDamagedError("it lists an unused storage")
        count, size = self._sizes[key]
        head = self._stream.read(8)
        if len(head) == 8 and int.from_bytes(head, "little") != count:
            raise _wrong_size(key)
        if len(head) < 8 or self._stream.tell() + size > self._length:
            raise CheckpointDamagedError("it is truncated in the middle of a tensor")
        self._budget.take(size)
        memory = empty_memory(size)
        read_fully(self._stream, memory.numpy().data)
        return memory


def _wrong_size(key: str) -> CheckpointDamagedError:
    return CheckpointDamagedError(f"its storage '{key}' has the wrong size")


class _BoundedStream:
    """Limits each read to the file size, because a pickle may claim a far larger length."""

    def __init__(self, stream: IO[bytes], length: int) -> None:
        self._stream = stream
        self._length = length
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._length))

    def readline(self) -> bytes:
        line = self._stream.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE and line[-1:] != b"\n":
            raise CheckpointError(f"its pickle contains a line longer than {_LONGEST_LINE} bytes")
        return line


def _checked_identity(identity: Any, *, length: int) -> tuple[Name, str, int, bool]:
    """Returns the storage class, the key and the number of elements of a storage, and whether it is a view."""
    if not isinstance(identity, tuple) or len(identity) != length or identity[0] != "storage":
        raise CheckpointError("it refers to an external object that is not a storage")
    _, kind, key, location, count, *rest = identity
    is_name = isinstance(kind, Name) and type(key) is str and type(location) is str
    if not is_name or type(count) is not int or count < 0:
        raise CheckpointError("it contains an invalid reference to a storage")
    return kind, key, count, any(each is not None for each in rest)
