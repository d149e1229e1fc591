"""Reads the files that `torch.save` writes, without importing or calling anything that they refer to."""

import io
import pickle
import warnings
import zipfile
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import torch
from torch.serialization import load  # some code bases patch `torch.load`, often with `weights_only=False`

from footplate.checkpoint.digest import END_RECORD, END_RECORD_BYTES, Digest, read_digest, verify_digest
from footplate.checkpoint.unpickler import Unpickler
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.messages import describe_exception

_ZIP_START = b"PK\x03\x04"
_MAX_REASON = 200
_PICKLE_MODULE = SimpleNamespace(
    __name__=__name__, Unpickler=Unpickler, load=lambda file, **settings: Unpickler(file, **settings).load()
)


class Content(NamedTuple):
    """The content of a checkpoint file."""

    value: Any  # the object that was saved
    digest: Digest  # the digest that the file records


def read_content(stream: IO[bytes], *, device: "str | torch.device" = "cpu") -> Content:
    """Verifies an open file and returns its content, without importing or calling anything that it refers to.

    If an archive has no digest, verifies the checksums of its members instead.

    Args:
        stream: The file, at any position.
        device: The device for the tensors. With 'meta', only their shapes are read, and nothing is verified.

    Raises:
        CheckpointDamagedError: The file is truncated or corrupted.
        CheckpointError: The file is not a checkpoint, or torch cannot read it.
    """
    device = torch.device(device)
    is_meta = device.type == "meta"
    digest = read_digest(stream) if is_meta else verify_digest(stream)
    is_archive = _check_archive(stream, digest, is_verified=is_meta or digest.length > 0)
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about typed storages and the sources of pickled modules
            return Content(_load(stream, device, is_archive=is_archive), digest)
    except OSError:
        raise
    except Exception as error:
        error_class = CheckpointError if is_archive or isinstance(error, MemoryError) else CheckpointDamagedError
        raise error_class(f"PyTorch cannot read it: {describe_briefly(error)}") from error


def verify_content(stream: IO[bytes]) -> Digest:
    """Verifies a file against its digest, or against the checksums in the archive, and returns the digest.

    Files from PyTorch before 1.6 have neither, so they are read completely instead.

    Raises:
        CheckpointDamagedError: The file is truncated or corrupted.
        CheckpointError: The file is not a checkpoint.
    """
    digest = verify_digest(stream)
    if not digest.length and not _check_archive(stream, digest, is_verified=False):
        read_content(stream)
    return digest


def describe_briefly(error: Exception) -> str:
    """Returns `describe_exception(error)`, shortened, because the error may quote the file."""
    return describe_exception(error)[:_MAX_REASON]


def _check_archive(stream: IO[bytes], digest: Digest, *, is_verified: bool) -> bool:
    """Checks the structure of an archive. If the file has not been verified yet, also checks the checksums.

    Returns False if the file is a pickle rather than an archive.

    Raises:
        CheckpointDamagedError: The file is neither an archive nor a pickle, or is truncated or corrupted.
        CheckpointError: The archive was not written by `torch.save`, or contains a TorchScript program.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    start = stream.read(len(_ZIP_START))
    if start[:1] == pickle.PROTO:
        return False
    if start != _ZIP_START:
        raise CheckpointDamagedError("the file is not a checkpoint, or its beginning is damaged")
    stream.seek(max(0, size - digest.length - END_RECORD_BYTES))
    end = stream.read(END_RECORD_BYTES)
    if not end.startswith(END_RECORD) or int.from_bytes(end[-2:], "little") != digest.length:
        raise CheckpointDamagedError("the end of the archive is missing or misplaced")
    try:
        archive = zipfile.ZipFile(stream)
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise CheckpointError(
                "the archive's contents are larger than the file: its members are compressed or overlap, which "
                "torch.save never does"
            )
        damaged = None if is_verified else archive.testzip()  # torch ignores the checksums
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise CheckpointDamagedError(f"the archive is damaged: {error}") from error
    if damaged is not None:
        raise CheckpointDamagedError(f"the archive member '{damaged}' does not match its checksum (CRC-32)")
    if min((member.header_offset for member in members), default=0):
        raise CheckpointDamagedError("the beginning of the archive is missing")
    if any(member.filename.partition("/")[2] == "constants.pkl" for member in members):
        raise CheckpointError(
            "the file contains a TorchScript program; to use its weights, save its state dict instead"
        )
    return True


def _load(stream: IO[bytes], device: torch.device, *, is_archive: bool) -> Any:
    if not is_archive:
        stream = io.BytesIO(stream.read())  # if the file had a descriptor, torch would also read tar archives
        first = Unpickler(stream, encoding="latin1").load()
        if type(first) is not int or first != torch.serialization.MAGIC_NUMBER:
            return first  # a plain pickle; anything else is the format before PyTorch 1.6
        stream.seek(0)
    try:
        return load(stream, map_location=device, weights_only=True)
    except Exception:  # noqa: BLE001 - torch refuses objects that `Unpickler` allows; all other errors occur again below
        stream.seek(0)
    return load(stream, map_location=device, weights_only=False, pickle_module=_PICKLE_MODULE, encoding="latin1")
