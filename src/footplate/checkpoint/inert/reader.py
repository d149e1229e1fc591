"""Reads files of `torch.save` as data: zip archives, and the format of torch before 1.6.

Source: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

import io
import mmap
import sys
import tarfile
from typing import IO, Any, NamedTuple

import torch

from footplate.checkpoint.inert import tensors
from footplate.checkpoint.inert.archive import Archive, read_fully
from footplate.checkpoint.inert.budget import Budget
from footplate.checkpoint.inert.known import CONSTANTS, CONSTRUCTORS
from footplate.checkpoint.inert.machine import Machine, Name
from footplate.errors import CheckpointDamagedError, CheckpointError

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_LONGEST_LINE = 1 << 16
_ZIP_START = b"PK\x03\x04"


class Content(NamedTuple):
    """The content of a file.

    Attributes:
        value: The object that was saved.
        inert_names: The names of classes and functions that were not imported, and how often each occurs.
    """

    value: Any
    inert_names: dict[str, int]


def read(
    stream: IO[bytes], *, device: "str | torch.device" = "cpu", seal: int = 0, mapped: "mmap.mmap | None" = None
) -> Content:
    """Returns the content of an open file; nothing in it is imported or called.

    Args:
        stream: The file, at any position.
        device: The device for the tensors; with 'meta' only their shapes are read.
        seal: The length of the seal after an archive in bytes; if 0, the checksums of the members are verified.
        mapped: A memory map of the file, for an archive with a seal. The tensors are views of this memory.

    Raises:
        CheckpointDamagedError: It is cut off or altered.
        CheckpointError: It is no checkpoint, or a hostile one.
    """
    budget = Budget(stream.seek(0, 2))
    stream.seek(0)
    start = stream.read(len(_ZIP_START))
    if start == _ZIP_START:
        archive = Archive(stream, comment=seal)
        reader = _ArchiveReader(archive, torch.device(device), check=not seal, mapped=mapped, budget=budget)
        content = reader.read()
    elif start[:1] == b"\x80":
        if _is_tar(stream):
            raise CheckpointDamagedError("it is ambiguous: torch reads it as a tar archive")
        content = _OldReader(stream, torch.device(device), budget).read()
    else:
        raise CheckpointDamagedError("it is no checkpoint, or its beginning is not what was written")
    budget.check_copies(content.value)
    return content


def _is_tar(stream: IO[bytes]) -> bool:
    """Returns whether the file starts with a tar header, which `torch.load` tries before pickle."""
    stream.seek(0)
    try:
        tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def check(stream: IO[bytes]) -> None:
    """Verifies the checksums of an archive; files of torch before 1.6 have no checksums and are read instead.

    Raises:
        CheckpointDamagedError: It is cut off or altered.
        CheckpointError: It is no checkpoint.
    """
    stream.seek(0)
    if stream.read(len(_ZIP_START)) == _ZIP_START:
        Archive(stream).check()
    else:
        read(stream)


class _ArchiveReader:
    def __init__(
        self, archive: Archive, device: torch.device, *, check: bool, mapped: "mmap.mmap | None", budget: Budget
    ) -> None:
        self._archive = archive
        self._budget = budget
        self._mapped = mapped
        self._device = device
        self._check = check
        self._memories: dict[str, torch.Tensor] = {}

    def read(self) -> Content:
        if "byteorder" in self._archive:
            order = self._archive.read("byteorder", check=self._check).decode("ascii", "replace")
            if order != sys.byteorder:
                raise CheckpointError(f"it was written on a machine of the other byte order ('{order}')")
        pickled = self._archive.read("data.pkl", check=self._check)
        self._budget.take(len(pickled))
        machine = Machine(CONSTRUCTORS, constants=CONSTANTS, persistent=self._storage_of, budget=self._budget)
        value = machine.run(io.BytesIO(pickled))
        return Content(value, machine.inert_names)

    def _storage_of(self, identity: Any) -> tensors.Storage:
        _, kind, key, _, count = _checked_identity(identity, length=5)
        dtype = tensors.storage_dtype(kind)
        if key not in self._memories:
            self._memories[key] = self._read_memory(f"data/{key}")
        memory = self._memories[key]
        if memory.numel() != count * dtype.itemsize:
            raise CheckpointDamagedError(f"the storage '{key}' in it has another size than it should")
        return tensors.Storage(memory, dtype)

    def _read_memory(self, name: str) -> torch.Tensor:
        size = self._archive.size_of(name)
        if self._device.type == "meta":
            return tensors.empty_memory(size, "meta")
        if self._mapped is not None and size:
            return tensors.mapped_memory(self._mapped, *self._archive.place_of(name))
        self._budget.take(size)
        memory = tensors.empty_memory(size)
        self._archive.read_into(name, memory.numpy().data, check=self._check)
        return memory.to(self._device)


class _OldReader:
    """Reads files of torch before 1.6.

    The storages follow after the object that uses them. So the object is read twice: first to find the sizes of its
    storages, and again with their content.
    """

    def __init__(self, stream: IO[bytes], device: torch.device, budget: Budget) -> None:
        self._length = stream.seek(0, 2)
        stream.seek(0)
        self._stream = stream
        self._device = device
        self._sizes: dict[str, tuple[int, int]] = {}
        self._memories: dict[str, torch.Tensor] = {}
        self._budget = budget
        self._machine = Machine(CONSTRUCTORS, constants=CONSTANTS, persistent=self._object_of, budget=budget)

    def read(self) -> Content:
        first = self._next_pickle()
        if type(first) is not int or first != _OLD_MAGIC:
            return Content(first, self._machine.inert_names)
        self._next_pickle()  # the protocol version, which never changed
        system = self._next_pickle()
        if isinstance(system, dict) and system.get("little_endian") is not (sys.byteorder == "little"):
            raise CheckpointError("it was written on a machine of the other byte order")
        start, spent = self._stream.tell(), self._budget.spent
        value = self._next_pickle()
        if self._device.type != "meta":
            self._budget.spent, value = spent, None  # it is read again
            keys = self._next_pickle()
            self._memories = {key: self._read_memory(key).to(self._device) for key in keys}
            self._machine.inert_names.clear()
            self._stream.seek(start)
            value = self._next_pickle()
        return Content(value, self._machine.inert_names)

    def _next_pickle(self) -> Any:
        return self._machine.run(_Bounded(self._stream, self._length))  # type: ignore[arg-type]

    def _object_of(self, identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[:1] == ("module",) and len(identity) > 1:
            return identity[1]
        _, kind, key, _, count, view = _checked_identity(identity, length=6)
        if view is not None:
            raise CheckpointError("it holds views of storages, which only very old versions of torch wrote")
        dtype = tensors.storage_dtype(kind)
        size = count * dtype.itemsize
        if self._sizes.setdefault(key, (count, size)) != (count, size) or size > self._length:
            raise CheckpointDamagedError(f"the storage '{key}' in it has another size than it should")
        memory = self._memories.get(key)
        return tensors.Storage(tensors.empty_memory(size, "meta") if memory is None else memory, dtype)

    def _read_memory(self, key: Any) -> torch.Tensor:
        if type(key) is not str or key not in self._sizes:
            raise CheckpointDamagedError("it lists a storage that nothing uses")
        count, size = self._sizes[key]
        if int.from_bytes(self._stream.read(8), "little") != count:
            raise CheckpointDamagedError(f"the storage '{key}' in it has another size than it should")
        if self._stream.tell() + size > self._length:
            raise CheckpointDamagedError("it is cut off in the middle of a tensor")
        self._budget.take(size)
        memory = tensors.empty_memory(size)
        read_fully(self._stream, memory.numpy().data)
        return memory


class _Bounded:
    """Limits each read to the file size, so that a length in a pickle cannot request more memory."""

    def __init__(self, stream: IO[bytes], length: int) -> None:
        self._stream = stream
        self._length = length

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._length))

    def readline(self) -> bytes:
        return self._stream.readline(_LONGEST_LINE)

    def tell(self) -> int:
        return self._stream.tell()


def _checked_identity(identity: Any, *, length: int) -> tuple[Any, ...]:
    if not isinstance(identity, tuple) or len(identity) != length or identity[0] != "storage":
        raise CheckpointError("it refers to an object outside of it that is no storage")
    _, kind, key, location, count = identity[:5]
    is_name = isinstance(kind, Name) and type(key) is str and type(location) is str
    if not is_name or type(count) is not int or count < 0:
        raise CheckpointError("it refers to a storage in a way that makes no sense")
    return identity
