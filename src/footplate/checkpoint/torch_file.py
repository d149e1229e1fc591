"""Reads the files that `torch.save` writes, without importing or calling anything that they refer to."""

import io
import pickle
import struct
import warnings
import zipfile
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import torch
from torch.serialization import load  # code bases replace `torch.load`, often with `weights_only=False`

from footplate.checkpoint.digest import Digest, read_digest, verify_digest
from footplate.checkpoint.unpickler import OpaqueObject, unpickler_with
from footplate.errors import CheckpointDamagedError, CheckpointError

_ZIP_START, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22
_MAX_REASON = 200


class Content(NamedTuple):
    """The content of a file."""

    value: Any  # the object that was saved
    opaque_names: list[str]  # the class names of the objects in the file that were not instantiated
    digest: Digest  # the digest that the file records


def read_content(stream: IO[bytes], *, device: "str | torch.device" = "cpu") -> Content:
    """Verifies an open file and returns its content. Nothing in it is imported or called.

    If an archive has no digest, the checksums of its members are verified instead.

    Args:
        stream: The file, at any position.
        device: The device for the tensors. With 'meta', only their shapes are read, and nothing is verified.

    Raises:
        CheckpointDamagedError: The file is truncated or corrupted.
        CheckpointError: The file is not a checkpoint, or torch cannot read it.
    """
    device = torch.device(device)
    digest = read_digest(stream) if device.type == "meta" else verify_digest(stream)
    classes: dict[str, type[OpaqueObject]] = {}
    archive: zipfile.ZipFile | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about typed storages, and sources of pickled modules
        try:
            archive = _open_archive(stream, digest)
            if archive is None:
                value = _read_old(stream, device, classes)
            else:
                if device.type != "meta" and not digest.length:
                    _verify_members(archive)  # torch ignores the checksums
                stream.seek(0)
                value = _load(stream, device, classes)
        except (CheckpointError, OSError):
            raise
        except Exception as error:
            reason = " ".join(str(error).partition("\n")[0].split())[:_MAX_REASON]
            is_verified = archive is not None or isinstance(error, MemoryError)
            kind = CheckpointError if is_verified else CheckpointDamagedError
            if not is_verified and isinstance(error, (EOFError, IndexError, struct.error)):
                raise kind("it is truncated or damaged") from error
            raise kind(f"PyTorch cannot read it: {type(error).__name__}: {reason}") from error
    return Content(value, sorted(classes), digest)


def verify_checksums(stream: IO[bytes]) -> None:
    """Verifies the checksums of an archive.

    Files saved by PyTorch before 1.6 have no checksums, so they are read completely instead.

    Raises:
        CheckpointDamagedError: The file is truncated or corrupted.
        CheckpointError: The file is not a checkpoint.
    """
    archive = _open_archive(stream, read_digest(stream))
    if archive is None:
        read_content(stream)
    else:
        _verify_members(archive)


def _verify_members(archive: zipfile.ZipFile) -> None:
    try:
        damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise CheckpointDamagedError(f"its archive is damaged: {error}") from error
    if damaged is not None:
        raise CheckpointDamagedError(f"its member '{damaged}' does not match its checksum (CRC-32)")


def _open_archive(stream: IO[bytes], digest: Digest) -> zipfile.ZipFile | None:
    """Returns the archive in a file, or None if the file is a pickle.

    Raises:
        CheckpointDamagedError: The file is neither, or it is truncated.
        CheckpointError: The archive was not written by `torch.save`.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    start = stream.read(len(_ZIP_START))
    if start[:1] == pickle.PROTO:
        return None
    if start != _ZIP_START:
        raise CheckpointDamagedError("it is not a checkpoint, or its beginning is damaged")
    stream.seek(max(0, size - digest.length - _ZIP_END_BYTES))
    end = stream.read(_ZIP_END_BYTES)
    if not end.startswith(_ZIP_END) or int.from_bytes(end[-2:], "little") != digest.length:
        raise CheckpointDamagedError("the end of the archive is missing or misplaced")
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointDamagedError(f"its archive is damaged: {error}") from error
    members = archive.infolist()
    if sum(member.file_size for member in members) > size:
        raise CheckpointError("its members are larger than the file, because they are compressed or overlap")
    if min((member.header_offset for member in members), default=0):
        raise CheckpointDamagedError("the beginning of the archive is missing")
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise CheckpointError("it contains a TorchScript program; export its state dict to use its weights")
    if "data.pkl" not in names:
        raise CheckpointError("it is an archive that was not written by torch.save")
    return archive


def _load(stream: IO[bytes], device: torch.device, classes: dict[str, type[OpaqueObject]]) -> Any:
    try:
        return load(stream, map_location=device, weights_only=True)
    except Exception:  # noqa: BLE001 - the file contains an object that torch refuses, or the next call fails
        stream.seek(0)
    reader = unpickler_with(classes)
    module = SimpleNamespace(__name__=__name__, Unpickler=reader, load=lambda file, **settings: reader(file).load())
    return load(stream, map_location=device, weights_only=False, pickle_module=module)


def _read_old(stream: IO[bytes], device: torch.device, classes: dict[str, type[OpaqueObject]]) -> Any:
    """Reads a plain pickle, or the format of PyTorch before 1.6, in which the tensors follow the pickle."""
    stream.seek(0)
    data = io.BytesIO(stream.read())  # torch would read a tar archive from a file with a descriptor
    first = unpickler_with(classes)(data).load()
    if type(first) is not int or first != torch.serialization.MAGIC_NUMBER:
        return first
    data.seek(0)
    return _load(data, device, classes)
