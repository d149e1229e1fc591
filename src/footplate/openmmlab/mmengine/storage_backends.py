"""Storage backends. They are selected by name or by the prefix of a path."""

import io
import json
import os
import tempfile
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from typing_extensions import override

from footplate import storage
from footplate.errors import ArgumentError, import_optional
from footplate.messages import nearest
from footplate.storage import file_system

PathLike = str | Path
Options = Mapping[str, Any] | None


class BaseStorageBackend(metaclass=ABCMeta):
    """The base class of backends that read files as bytes or as text."""

    _allow_symlink = False

    @property
    def allow_symlink(self) -> bool:
        """Whether this storage supports symbolic links."""
        return self._allow_symlink

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    @abstractmethod
    def get(self, filepath: Any) -> bytes:
        """Returns the content of a file."""

    def get_text(self, filepath: Any, encoding: str = "utf-8") -> str:
        """Returns the content of a text file."""
        return self.get(filepath).decode(encoding)


class _FileSystemBackend(BaseStorageBackend):
    """A backend for any storage that fsspec supports. The protocol of the path determines the storage."""

    def _path(self, filepath: PathLike) -> str:
        return os.fspath(filepath)

    @override
    def get(self, filepath: PathLike) -> bytes:
        return storage.read_bytes(self._path(filepath))

    def put(self, obj: bytes | io.BytesIO, filepath: PathLike) -> None:
        """Writes a file. Creates missing folders."""
        data = obj.getvalue() if isinstance(obj, io.BytesIO) else obj
        path = self._path(filepath)
        storage.make_dirs(storage.parent(path))
        storage.commit_bytes(path, data)

    def put_text(self, obj: str, filepath: PathLike, encoding: str = "utf-8") -> None:
        """Writes a text file. Creates missing folders."""
        self.put(obj.encode(encoding), filepath)

    def exists(self, filepath: PathLike) -> bool:
        """Checks whether the path is a file or a folder."""
        return storage.exists(self._path(filepath))

    def isdir(self, filepath: PathLike) -> bool:
        """Checks whether the path is a folder."""
        system, path = file_system(self._path(filepath))
        return bool(system.isdir(path))

    def isfile(self, filepath: PathLike) -> bool:
        """Checks whether the path is a file."""
        system, path = file_system(self._path(filepath))
        return bool(system.isfile(path))

    def join_path(self, filepath: PathLike, *filepaths: PathLike) -> str:
        """Appends components to a path."""
        return storage.join(self._path(filepath), *(os.fspath(each) for each in filepaths))

    @contextmanager
    def get_local_path(self, filepath: PathLike) -> Iterator[PathLike]:
        """Yields a local path. A remote file is copied to this machine for the duration of the block."""
        with tempfile.TemporaryDirectory(prefix="footplate-") as folder:
            local = os.path.join(folder, storage.base_name(self._path(filepath)))
            Path(local).write_bytes(self.get(filepath))
            yield local

    def _copy_file(self, src: PathLike, dst: PathLike, *, local: str = "") -> str:
        """Copies a file into a folder or to a path and returns the path of the copy.

        `local` is "source" to copy from this machine to this storage, "target" for the reverse, and by default "" to
        copy within this storage.
        """
        source, target = self._ends(local)
        path = os.fspath(dst)
        if target.isdir(path):
            path = storage.join(path, storage.base_name(os.fspath(src)))
        target.put(source.get(src), path)
        return path

    def _copy_tree(self, src: PathLike, dst: PathLike, *, local: str = "") -> str:
        """Copies a folder to a path that does not exist yet and returns that path. `local` is as in `_copy_file`."""
        source, target = self._ends(local)
        if target.exists(dst):
            raise FileExistsError(f"'{dst}' already exists. Pass a path that does not exist yet.")
        for name in source.list_dir_or_file(src, list_dir=False, recursive=True):
            target.put(source.get(source.join_path(src, name)), target.join_path(dst, name))
        return os.fspath(dst)

    def _ends(self, local: str) -> "tuple[_FileSystemBackend, _FileSystemBackend]":
        return LocalBackend() if local == "source" else self, LocalBackend() if local == "target" else self

    copyfile = partialmethod(_copy_file)
    copytree = partialmethod(_copy_tree)
    copyfile_from_local = partialmethod(_copy_file, local="source")
    copytree_from_local = partialmethod(_copy_tree, local="source")
    copyfile_to_local = partialmethod(_copy_file, local="target")
    copytree_to_local = partialmethod(_copy_tree, local="target")

    def remove(self, filepath: PathLike) -> None:
        """Removes a file.

        Raises:
            FileNotFoundError: The file does not exist.
        """
        system, path = file_system(self._path(filepath))
        system.rm_file(path)

    def rmtree(self, dir_path: PathLike) -> None:
        """Removes a folder and everything in it."""
        system, path = file_system(self._path(dir_path))
        system.rm(path, recursive=True)

    def copy_if_symlink_fails(self, src: PathLike, dst: PathLike) -> bool:
        """Links `dst` to `src`, or copies `src` if links are not supported. Returns whether `dst` is a link."""
        if self._allow_symlink:
            with suppress(OSError):
                os.symlink(src, dst)
                return True
        copy = self.copytree if self.isdir(src) else self.copyfile
        copy(src, dst)
        return False

    def list_dir_or_file(
        self,
        dir_path: PathLike,
        list_dir: bool = True,
        list_file: bool = True,
        suffix: str | tuple[str, ...] | None = None,
        recursive: bool = False,
    ) -> Iterator[str]:
        """Yields the paths of folders and files relative to `dir_path`. Skips hidden files.

        Args:
            dir_path: The folder.
            list_dir: Whether to yield folders.
            list_file: Whether to yield files.
            suffix: The suffixes of the files to yield; all by default. Requires `list_dir=False`.
            recursive: Whether to include subfolders.

        Raises:
            TypeError: `suffix` is given for folders.
        """
        if list_dir and suffix is not None:
            raise TypeError("'suffix' requires list_dir=False, because folders have no suffix.")
        return self._entries(self._path(dir_path), list_dir, list_file, suffix, recursive)

    def _entries(self, folder: str, list_dir: bool, list_file: bool, suffix: Any, recursive: bool) -> Iterator[str]:
        for name in sorted(storage.list_dir(folder)):
            path = storage.join(folder, name)
            if self.isdir(path):
                if list_dir:
                    yield name
                if recursive:
                    for entry in self._entries(path, list_dir, list_file, suffix, recursive):
                        yield f"{name}/{entry}"
            elif list_file and not name.startswith(".") and (suffix is None or name.endswith(suffix)):
                yield name


class LocalBackend(_FileSystemBackend):
    """Accesses files on this machine."""

    _allow_symlink = True

    @override
    @contextmanager
    def get_local_path(self, filepath: PathLike) -> Iterator[PathLike]:
        yield filepath


class HardDiskBackend(LocalBackend):
    """An old name for `LocalBackend`."""


class HTTPBackend(_FileSystemBackend):
    """Reads files at URLs. Writing is not supported.

    Unlike fsspec's HTTP file system, `get` needs no additional packages.
    """

    @override
    def get(self, filepath: PathLike) -> bytes:
        with urlopen(self._path(filepath)) as response:
            return bytes(response.read())


class PetrelBackend(_FileSystemBackend):
    """Accesses files in an object store, such as `s3://bucket/name`, through fsspec.

    Args:
        path_mapping: Maps path prefixes to their replacements.
        enable_mc: Ignored.
        conf_path: Ignored; fsspec reads its own configuration.
    """

    def __init__(
        self, path_mapping: Mapping[str, str] | None = None, enable_mc: bool = True, conf_path: str | None = None
    ) -> None:
        self.path_mapping = dict(path_mapping or {})

    def _path(self, filepath: PathLike) -> str:
        path = os.fspath(filepath).replace("\\", "/")
        for start, replacement in self.path_mapping.items():
            path = path.replace(start, replacement, 1)
        return path


class LmdbBackend(BaseStorageBackend):
    """Reads the values of an LMDB database by key.

    Args:
        db_path: The database.
        readonly: See `lmdb.open`.
        lock: See `lmdb.open`.
        readahead: See `lmdb.open`.
        options: Additional options for `lmdb.open`.

    Raises:
        MissingExtraError: The package lmdb is not installed.
    """

    def __init__(
        self, db_path: PathLike, readonly: bool = True, lock: bool = False, readahead: bool = False, **options: Any
    ) -> None:
        lmdb = import_optional("lmdb", extra="hosts", why="The file backend 'lmdb'")
        self._database = lmdb.open(os.fspath(db_path), readonly=readonly, lock=lock, readahead=readahead, **options)

    @override
    def get(self, filepath: PathLike) -> bytes:
        with self._database.begin(write=False) as transaction:
            return bytes(transaction.get(os.fspath(filepath).encode("ascii")))


_backends: dict[str, type[BaseStorageBackend]] = {
    "local": LocalBackend,
    "disk": HardDiskBackend,
    "http": HTTPBackend,
    "petrel": PetrelBackend,
    "lmdb": LmdbBackend,
}
_prefixes: dict[str, type[BaseStorageBackend]] = {
    "": LocalBackend,
    "file": LocalBackend,
    "http": HTTPBackend,
    "https": HTTPBackend,
    "s3": PetrelBackend,
    "petrel": PetrelBackend,
}


def register_backend(
    name: str,
    backend: type[BaseStorageBackend] | None = None,
    force: bool = False,
    prefixes: str | Sequence[str] | None = None,
) -> Any:
    """Registers a backend under a name and for prefixes of paths. Can be used as a decorator.

    Args:
        name: The name in `backend_args`.
        backend: The class. If it is None, a decorator is returned.
        force: Whether to replace a registered backend.
        prefixes: The prefixes, such as "s3" for `s3://...`.

    Raises:
        KeyError: The name or a prefix is already registered and `force` is not set.
    """

    def register(found: type[BaseStorageBackend]) -> type[BaseStorageBackend]:
        starts = [prefixes] if isinstance(prefixes, str) else prefixes or ()
        for key, table in [(name, _backends), *((start, _prefixes) for start in starts)]:
            if table.get(key, found) is not found and not force:
                raise KeyError(f"'{key}' is already registered. Pass force=True to replace it.")
            table[key] = found
        return found

    return register if backend is None else register(backend)


def prefix_of(uri: PathLike | None) -> str:
    """Returns the prefix of a path, such as "s3", or "" if it has none."""
    text = os.fspath(uri) if uri is not None else ""
    start, found, _ = text.partition("://")
    return start.rpartition(":")[2] if found else ""


def get_file_backend(
    uri: PathLike | None = None, *, backend_args: Options = None, enable_singleton: bool = False
) -> Any:
    """Returns the backend that `backend_args` selects, or the backend for the prefix of a path.

    Args:
        uri: The path.
        backend_args: A dict with the name of a backend under `backend`, and the arguments for its constructor.
        enable_singleton: Whether to return the same object for the same arguments.

    Raises:
        ArgumentError: There is no such backend.
    """
    options = dict(backend_args or {})
    name = options.pop("backend", None)
    if name is not None and name not in _backends:
        notes = [f"Known backends: {', '.join(_backends)}."]
        raise ArgumentError("unknown file backend", found=name, suggestion=nearest(name, _backends), notes=notes)
    # fsspec may support a prefix for which no backend is registered.
    kind = _backends[name] if name is not None else _prefixes.get(prefix_of(uri), _FileSystemBackend)
    if not enable_singleton:
        return kind(**options)
    key = f"{kind.__module__}.{kind.__qualname__}:{json.dumps(options, sort_keys=True, default=repr)}"
    if key not in instances:
        instances[key] = kind(**options)
    return instances[key]


instances: dict[str, BaseStorageBackend] = {}
