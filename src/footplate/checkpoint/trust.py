"""Trust in one file: a decision of the user, which is recorded with what came of it."""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from footplate.storage import absolute

_logger = logging.getLogger("footplate.checkpoint")
_CHUNK_BYTES = 1 << 20
_granted: list[str] = []  # absolute paths, of the blocks that are open
_records: list[dict[str, str]] = []


@contextmanager
def trusting(path: "str | os.PathLike[str] | None") -> Iterator[None]:
    """Lets one checkpoint execute code when it is loaded within the block, wherever that happens.

    What was executed is recorded: in the log, and with path and sha256 under `meta.trusted` of what is saved from it.

    Args:
        path: The checkpoint; with None nothing is trusted.
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
    """Checks whether the user trusts a file."""
    return absolute(path) in _granted


def record(path: str, stream: IO[bytes]) -> None:
    """Writes down which file it is that may execute code, before it does; the stream is read to its end."""
    digest = hashlib.sha256()
    stream.seek(0)
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    _logger.warning("trusting checkpoint '%s', sha256 %s: code in it may be executed", path, digest.hexdigest())
    if _granted:
        _records.append({"path": absolute(path), "sha256": digest.hexdigest()})


def trusted_files(before: Sequence[Mapping[str, str]] = ()) -> list[dict[str, str]]:
    """Returns path and sha256 of every file that was trusted.

    Args:
        before: Those that stand in what was loaded: they come first.
    """
    found = [*before, *_records]
    return [dict(each) for place, each in enumerate(found) if each not in found[:place]]


def trusted_in(checkpoint: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns which files were trusted for what a checkpoint holds, as it says."""
    meta = checkpoint.get("meta")
    found = meta.get("trusted") if isinstance(meta, Mapping) else None
    return [dict(each) for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []
