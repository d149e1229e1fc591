"""Reading, writing and committing files anywhere: local folders directly, everything else through fsspec."""

from footplate.storage.files import (
    FileStatus,
    clean_stale,
    commit_bytes,
    commit_file,
    exists,
    free_space,
    list_dir,
    make_dirs,
    open_file,
    read_bytes,
    remove,
    remove_folder,
    status,
)
from footplate.storage.paths import absolute, base_name, is_local, join, local_path, parent
from footplate.storage.sink import Sink
from footplate.storage.sought import sought

__all__ = [
    "FileStatus",
    "Sink",
    "absolute",
    "base_name",
    "clean_stale",
    "commit_bytes",
    "commit_file",
    "exists",
    "free_space",
    "is_local",
    "join",
    "list_dir",
    "local_path",
    "make_dirs",
    "open_file",
    "parent",
    "read_bytes",
    "remove",
    "remove_folder",
    "sought",
    "status",
]
