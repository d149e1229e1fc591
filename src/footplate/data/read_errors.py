"""Repeats failed requests to storages, and explains errors of reading files."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from footplate.errors import DataError, StorageError
from footplate.storage import is_local, missing_path_notes

_logger = logging.getLogger("footplate.data")
_RETRY_SECONDS = (1.0, 5.0, 20.0)  # waiting times before a failed request to a storage is repeated
_Result = TypeVar("_Result")


def with_retries(read: Callable[[str], _Result], path: str) -> _Result:
    """Returns `read(path)`. If the connection to the storage fails, repeats the call after 1, 5 and 20 seconds.

    Raises:
        ConnectionError: The last retry failed.
        OSError: Reading failed for another reason.
    """
    for seconds in _RETRY_SECONDS:
        try:
            return read(path)
        except ConnectionError as error:
            if not threading.main_thread().is_alive():  # the process ends, and has closed its connections
                raise
            _logger.warning("Reading '%s' again in %g s, because it failed: %s.", path, seconds, error)
            time.sleep(seconds)
    return read(path)


@contextmanager
def explain_read_errors(kind: str, path: str) -> Iterator[None]:
    """Converts errors of the block to errors that contain the path of a file.

    Args:
        kind: The kind of the file, such as "shard".
        path: Its path or URL.

    Raises:
        DataError: The file does not exist, or a local file cannot be read.
        StorageError: The storage of a remote file cannot be reached, or refuses access.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"the {kind} '{path}' does not exist", notes=missing_path_notes(path)) from error
    except OSError as error:
        error_type = DataError if is_local(path) else StorageError
        raise error_type(f"the {kind} '{path}' cannot be read: {error}") from error
