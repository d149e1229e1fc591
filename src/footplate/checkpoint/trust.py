"""Lets the user trust a single checkpoint file, and records which files were trusted."""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from footplate.storage import absolute

_logger = logging.getLogger("footplate.checkpoint")
_CHUNK_BYTES = 1 << 20
_granted: list[str] = []  # absolute paths of the active `trusting` blocks
_records: list[dict[str, str]] = []


@contextmanager
def trusting(path: "str | os.PathLike[str] | None") -> Iterator[None]:
    """Allows one checkpoint to execute code when it is loaded anywhere within the block.

    The load is logged. Checkpoints saved within the block record the path and SHA-256 under `meta.trusted`.

    Args:
        path: The checkpoint; with None, no file is trusted.
    """
    if path is None:
        yield
        return
    _granted.append(absolute(path))
    before = len(_records)
    try:
        yield
        if len(_records) == before:
            _logger.warning("'%s' was to be trusted, and nothing has read it", os.fspath(path))
    finally:
        del _granted[-1], _records[before:]


def is_trusted(path: "str | os.PathLike[str]") -> bool:
    """Checks whether a file is trusted in the current block."""
    return absolute(path) in _granted


def record(path: str, stream: IO[bytes]) -> None:
    """Records path and SHA-256 of a file that may execute code; reads the stream to its end."""
    digest = hashlib.sha256()
    stream.seek(0)
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    _logger.warning("trusting checkpoint '%s', sha256 %s: code in it may be executed", path, digest.hexdigest())
    if _granted:
        _records.append({"path": absolute(path), "sha256": digest.hexdigest()})


def trusted_files(before: Sequence[Mapping[str, str]] = ()) -> list[dict[str, str]]:
    """Returns path and SHA-256 of every trusted file, without duplicates.

    Args:
        before: The trusted files that the loaded checkpoint lists; they come first.
    """
    found = [*before, *_records]
    return [dict(each) for place, each in enumerate(found) if each not in found[:place]]


def trusted_in(checkpoint: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the trusted files that a checkpoint lists in its metadata."""
    meta = checkpoint.get("meta")
    found = meta.get("trusted") if isinstance(meta, Mapping) else None
    return [dict(each) for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []
