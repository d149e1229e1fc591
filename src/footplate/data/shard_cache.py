"""Local copies of remote files, limited in size and shared by all processes of a machine."""

import hashlib
import logging
import os
import time
from contextlib import suppress
from typing import IO, Any

from footplate.errors import DataError
from footplate.storage import (
    FileStatus,
    atomic_file,
    base_name,
    clean_stale,
    is_local,
    local_path,
    lock,
    open_file,
    read_pieces,
)

_logger = logging.getLogger("footplate.data")
DEFAULT_FOLDER = os.path.join("~", ".cache", "footplate", "shards")
_ATTEMPTS = 5  # another process may remove a copy before it is opened
_USE_INTERVAL = 10.0  # seconds between two updates of the time at which a copy was last used
_LEAST_AGE = 1.0  # seconds; a younger copy is not removed, because the process that downloaded it has yet to open it
_COPY_BYTES = 1 << 20
_RETRY_SECONDS = (1.0, 5.0, 20.0)  # waiting times before a download that was interrupted is repeated


class ShardCache:
    """Downloads remote shards when they are first read, and removes the least recently used ones.

    The total size may exceed `max_bytes` by the size of the shards that are being downloaded or were downloaded within
    the last second.

    Args:
        folder: The folder for the copies.
        max_bytes: The maximum total size of the copies.
    """

    def __init__(self, folder: str, max_bytes: float) -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.max_bytes = max_bytes

    def path(self, url: str, tag: str = "") -> str:
        """Returns the path of the copy of a file; `tag` distinguishes versions of the file."""
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        return os.path.join(self.folder, f"{digest}{tag}-{base_name(url)}")

    def open(self, shard: str, status: FileStatus) -> IO[Any]:
        """Opens a shard for reading. If the shard is remote, opens a local copy.

        Args:
            shard: The path or URL.
            status: Its size and modification time. Each version of a remote shard has its own copy.

        Raises:
            DataError: The shard cannot be downloaded after several attempts, or its size differs from `status`.
            OSError: The shard or the copy cannot be opened.
        """
        if is_local(shard):
            return open_file(local_path(shard))
        path = self.path(shard, f"-{status.size}-{status.modified:.6f}")
        for _ in range(_ATTEMPTS):
            if not os.path.exists(path):
                try:
                    with lock(path):
                        if not os.path.exists(path):  # no other process has downloaded it in the meantime
                            self._download(shard, path, status.size)
                except FileNotFoundError as error:
                    raise DataError(f"the shard '{shard}' does not exist") from error
                except OSError as error:
                    raise DataError(f"the shard '{shard}' cannot be copied to '{self.folder}': {error}") from error
            with suppress(FileNotFoundError):
                stream = open_file(path)
                if time.time() - os.fstat(stream.fileno()).st_mtime > _USE_INTERVAL:
                    with suppress(FileNotFoundError):
                        os.utime(path)
                return stream
        raise DataError(
            f"other processes remove the copy of the shard '{shard}' as soon as it is downloaded",
            found=f"cache_gb={self.max_bytes / 1e9:g}",
            notes=["Increase cache_gb, so that the cache holds all shards that are read at the same time."],
        )

    def _download(self, shard: str, path: str, size: int) -> None:
        clean_stale(self.folder)
        self._make_room(size)
        for seconds in (*_RETRY_SECONDS, None):
            try:
                self._copy(shard, path, size)
            except ConnectionError as error:
                if seconds is None:
                    raise
                _logger.warning("Retrying the download of '%s' in %g s, because it failed: %s.", shard, seconds, error)
                time.sleep(seconds)
            else:
                return

    def _copy(self, shard: str, path: str, size: int) -> None:
        with atomic_file(path) as target:
            copied = sum(target.write(piece) for piece in read_pieces(shard, _COPY_BYTES))
            if copied != size:
                raise DataError(
                    f"the size of the shard '{shard}' differs from its index",
                    found=f"{copied} bytes instead of {size}",
                    notes=["Its download is incomplete, or it was replaced. Start the run again to check the indexes."],
                )

    def _make_room(self, size: int) -> None:
        """Removes the least recently used copies until `size` more bytes fit."""
        youngest = time.time() - _LEAST_AGE
        with lock(os.path.join(self.folder, "removal")):
            copies = []
            for entry in os.scandir(self.folder):
                with suppress(FileNotFoundError):
                    if not entry.name.startswith(".") and not entry.name.endswith(".json"):
                        found = entry.stat()
                        copies.append((found.st_mtime, found.st_size, entry.path))
            copies.sort(reverse=True)  # last used first
            total = size
            for modified, used, path in copies:
                total += used
                if total > self.max_bytes and modified < youngest:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
