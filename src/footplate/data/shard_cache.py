"""Local copies of remote files, limited in size and shared by all processes of a machine."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import IO, Any

from footplate.data.read_errors import explain_read_errors, with_retries
from footplate.errors import StorageError
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

DEFAULT_FOLDER = os.path.join("~", ".cache", "footplate", "shards")
_ATTEMPTS = 5  # another process may remove a copy before it is opened
_USE_INTERVAL = 10.0  # seconds between two updates of the time at which a copy was last used
_LEAST_AGE = 1.0  # seconds; a younger copy is not removed, because the process that downloaded it has yet to open it
_WAIT_INTERVAL, _LONGEST_WAIT = 0.1, 60.0  # seconds to wait until other downloads have ended and space is free
_LONGEST_PAUSE = 600.0  # seconds; a download that has not written for longer was left by a dead process
_COPY_BYTES = 1 << 20
_LONGEST_NAME = 100  # characters of a name in the cache that are from the name of the shard
# The beginning of the name of a copy, or, with a dot, of an unfinished copy. No other file is counted or removed.
_COPY_NAME = re.compile(r"\.?[0-9a-f]{16}-(\d+)-\d+\.\d{6}-")


class ShardCache:
    """Downloads remote shards when they are first read, and removes the least recently used ones.

    A download that does not fit next to running downloads waits up to one minute for their end. The total size exceeds
    `max_bytes` only if they take longer, or if a single shard is larger.

    Args:
        folder: The folder for the copies.
        max_bytes: The maximum total size of the copies.
        shard_name: The word for a shard in error messages.
    """

    def __init__(self, folder: str, max_bytes: float, shard_name: str = "shard") -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder))
        self.max_bytes = max_bytes
        self.shard_name = shard_name

    def path(self, url: str, tag: str = "") -> str:
        """Returns the path of the copy of a file; `tag` distinguishes versions of the file."""
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        return os.path.join(self.folder, f"{digest}{tag}-{base_name(url)[-_LONGEST_NAME:]}")

    def open(self, shard: str, status: FileStatus) -> IO[Any]:
        """Opens a shard for reading. If the shard is remote, opens a local copy.

        Args:
            shard: The path or URL.
            status: Its size and modification time. Each version of a remote shard has its own copy.

        Raises:
            DataError: The shard does not exist.
            StorageError: The shard cannot be downloaded completely after several attempts, or the copy cannot be
                written.
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
                except OSError as error:
                    raise StorageError(
                        f"the {self.shard_name} '{shard}' cannot be copied to '{self.folder}': {error}",
                        notes=["Set cache_dir to a folder that can be written and has enough free space."],
                    ) from error
            with suppress(FileNotFoundError):
                stream = open_file(path)
                found = os.fstat(stream.fileno())
                if found.st_size != status.size:  # the copy was changed
                    stream.close()
                    os.unlink(path)
                    continue
                if time.time() - found.st_mtime > _USE_INTERVAL:
                    with suppress(FileNotFoundError):
                        os.utime(path)
                return stream
        raise StorageError(
            f"other processes remove the copy of the {self.shard_name} '{shard}' as soon as it is downloaded",
            found=f"cache_gb={self.max_bytes / 1e9:g}",
            notes=[
                f"Increase cache_gb, so that the cache holds all {self.shard_name}s that are read at the same time."
            ],
        )

    def _download(self, shard: str, path: str, size: int) -> None:
        try:
            with_retries(lambda url: self._copy(url, path, size), shard)
        except ConnectionError:  # after the last retry
            with explain_read_errors(self.shard_name, shard):
                raise

    def _read_pieces(self, shard: str) -> Iterator[bytes]:
        """Yields the content of a shard. A ConnectionError is raised as it is, so that the download is repeated."""
        try:
            yield from read_pieces(shard, _COPY_BYTES)
        except ConnectionError:
            raise
        except OSError:
            with explain_read_errors(self.shard_name, shard):
                raise

    def _copy(self, shard: str, path: str, size: int) -> None:
        with ExitStack() as stack:
            target, until = None, time.monotonic() + _LONGEST_WAIT
            while target is None:
                clean_stale(self.folder)
                with self._lock():  # no other process reserves the same space
                    if self._make_room(size, force=time.monotonic() > until):
                        target = stack.enter_context(atomic_file(path, reserve=size))
                if target is None:
                    time.sleep(_WAIT_INTERVAL)
            copied = sum(map(target.write, self._read_pieces(shard)))
            if copied != size:
                raise ConnectionError(f"the storage sent {copied} bytes instead of {size}")
            with self._lock():  # a process that adds up the sizes could miss a file that is renamed
                stack.close()

    def _lock(self) -> AbstractContextManager[None]:
        return lock(os.path.join(self.folder, "removal"))

    def _make_room(self, size: int, *, force: bool) -> bool:
        """Removes the least recently used copies until `size` more bytes fit.

        Returns False, and removes nothing, if running downloads and new copies, which are not removed, use the space.
        With `force`, removes as many copies as possible instead.
        """
        now, total, copies = time.time(), size, []
        for entry in os.scandir(self.folder):
            name = _COPY_NAME.match(entry.name)
            if name is None:
                continue
            is_running = entry.name.startswith(".")
            try:
                found = entry.stat()
            except FileNotFoundError:
                total += int(name.group(1)) if is_running else 0  # a download that ended was renamed to a copy
                continue
            age = now - found.st_mtime
            if is_running:
                total += found.st_size if age < _LONGEST_PAUSE else 0  # a running download has its full size
            elif age < _LEAST_AGE:
                total += found.st_size
            else:
                copies.append((found.st_mtime, found.st_size, entry.path))
        if self.max_bytes < total != size and not force:
            return False
        for _, used, path in sorted(copies, reverse=True):  # last used first
            if total + used <= self.max_bytes:
                total += used
            else:
                with suppress(FileNotFoundError):
                    os.unlink(path)
        return True
