"""Reads and atomically writes files: local files directly, everything else through fsspec."""

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
    remove_empty_folder,
    status,
)
from footplate.storage.outputs import check_output, check_output_path, output_path
from footplate.storage.paths import (
    absolute,
    base_name,
    canonical,
    is_link,
    is_local,
    is_same_storage,
    join,
    local_path,
    missing_path_notes,
    parent,
)
from footplate.storage.remote import check_protocol
from footplate.storage.sink import Sink

__all__ = [
    "FileStatus",
    "Sink",
    "absolute",
    "base_name",
    "canonical",
    "check_output",
    "check_output_path",
    "check_protocol",
    "clean_stale",
    "commit_bytes",
    "commit_file",
    "exists",
    "free_space",
    "is_link",
    "is_local",
    "is_same_storage",
    "join",
    "list_dir",
    "local_path",
    "make_dirs",
    "missing_path_notes",
    "open_file",
    "output_path",
    "parent",
    "read_bytes",
    "remove",
    "remove_empty_folder",
    "status",
]
