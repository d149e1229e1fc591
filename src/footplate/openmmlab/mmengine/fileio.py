"""Functions and classes from `mmengine.fileio` for reading and writing files on any storage backend.

The backend is selected by name or by path prefix.
"""

import io
import json
import os
import pickle
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

import numpy as np
import yaml
from typing_extensions import override

from footplate import storage
from footplate.data.annotations import read_plain_pickle
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.storage import file_system

PathLike = str | Path
Options = Mapping[str, Any] | None


class BaseStorageBackend(ABC):
    """Base class for storage backends that read files as bytes or as text.

    Attributes:
        allow_symlink: Whether this storage supports symbolic links.
    """

    allow_symlink = False

    @property
    def name(self) -> str:
        """The class name."""
        return type(self).__name__

    @abstractmethod
    def get(self, filepath: Any) -> bytes:
        """Returns the content of a file as bytes."""

    def get_text(self, filepath: Any, encoding: str = "utf-8") -> str:
        """Returns the content of a text file."""
        return self.get(filepath).decode(encoding)


class _FileSystemBackend(BaseStorageBackend):
    """Accesses any storage that fsspec supports. The path's protocol determines the storage."""

    def _path(self, filepath: PathLike) -> str:
        return os.fspath(filepath)

    @override
    def get(self, filepath: PathLike) -> bytes:
        return storage.read_bytes(self._path(filepath))

    def put(self, obj: bytes | io.BytesIO, filepath: PathLike) -> None:
        """Writes bytes, or the content of a BytesIO, to a file. Creates missing folders."""
        data = obj.getvalue() if isinstance(obj, io.BytesIO) else obj
        path = self._path(filepath)
        storage.make_dirs(storage.parent(path))
        storage.commit_bytes(path, data)

    def put_text(self, obj: str, filepath: PathLike, encoding: str = "utf-8") -> None:
        """Writes a string to a text file. Creates missing folders."""
        self.put(obj.encode(encoding), filepath)

    def exists(self, filepath: PathLike) -> bool:
        """Checks whether a file or folder exists at the path."""
        return storage.exists(self._path(filepath))

    def _call(self, method: str, filepath: PathLike, **options: Any) -> Any:
        """Calls a method of the fsspec file system for a path."""
        system, path = file_system(self._path(filepath))
        return getattr(system, method)(path, **options)

    isdir = partialmethod(_call, "isdir")
    """Checks whether the path is a folder."""
    isfile = partialmethod(_call, "isfile")
    """Checks whether the path is a file."""
    remove = partialmethod(_call, "rm_file")
    """Removes a file. Raises FileNotFoundError if it does not exist."""

    def join_path(self, filepath: PathLike, *filepaths: PathLike) -> str:
        """Appends components to a path and returns the result."""
        return storage.join(self._path(filepath), *map(str, filepaths))

    @contextmanager
    def get_local_path(self, filepath: PathLike) -> Iterator[PathLike]:
        """Yields a local path of a file; a copy of a remote file is deleted at the end of the block."""
        path = self._path(filepath)
        if storage.is_local(path):
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="footplate-") as folder:
            local = os.path.join(folder, storage.base_name(path))
            Path(local).write_bytes(self.get(filepath))
            yield local

    def list_dir_or_file(
        self,
        dir_path: PathLike,
        list_dir: bool = True,
        list_file: bool = True,
        suffix: str | tuple[str, ...] | None = None,
        recursive: bool = False,
    ) -> Iterator[str]:
        """Returns sorted paths relative to `dir_path`. Skips hidden files, but not hidden folders.

        Args:
            dir_path: The folder.
            list_dir: Whether to return folders.
            list_file: Whether to return files.
            suffix: One or more suffixes; only files with these suffixes are returned. Requires `list_dir=False`.
            recursive: Whether to include subfolders.

        Raises:
            TypeError: `suffix` and `list_dir` are both set.
        """
        if list_dir and suffix is not None:
            raise TypeError("'suffix' requires list_dir=False, because folders have no suffix.")
        system, top = file_system(self._path(dir_path))
        entries = []
        for folder, folders, files in system.walk(top, maxdepth=None if recursive else 1, on_error="raise"):
            visible = [name for name in files if not name.startswith(".") and name.endswith(suffix or "")]
            names = [*(folders if list_dir else ()), *(visible if list_file else ())]
            entries += [f"{folder}/{name}"[len(top) :].lstrip("/") for name in names]
        return iter(sorted(entries))


class LocalBackend(_FileSystemBackend):
    """Accesses files on this machine."""

    allow_symlink = True


HardDiskBackend = LocalBackend


class HTTPBackend(_FileSystemBackend):
    """Reads files from URLs. Does not support writing.

    Unlike fsspec's HTTP file system, `get` does not require additional packages.
    """

    @override
    def get(self, filepath: PathLike) -> bytes:
        with urlopen(self._path(filepath)) as response:
            return bytes(response.read())


class PetrelBackend(_FileSystemBackend):
    """Accesses files in an object store, such as `s3://bucket/name`, through fsspec.

    Args:
        path_mapping: Maps parts of paths, usually prefixes, to their replacements. Only the first occurrence of each
            part is replaced.
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
    """Reads values from an LMDB database by key.

    Args:
        db_path: The path of the database.
        options: Options for `lmdb.open`. By default, the database is opened read-only, with locking and readahead
            disabled.
    """

    def __init__(self, db_path: PathLike, **options: Any) -> None:
        import lmdb  # type: ignore[import-not-found, unused-ignore]

        settings = {"readonly": True, "lock": False, "readahead": False, **options}
        self._database = lmdb.open(os.fspath(db_path), **settings)

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
    """Registers a backend under a name and for path prefixes. Can be used as a decorator.

    Args:
        name: The name for use in `backend_args`.
        backend: The backend class. If None, returns a decorator.
        force: Ignored; a registered backend is always replaced.
        prefixes: The prefixes, such as "s3" for `s3://...`.
    """

    if backend is None:
        return partial(register_backend, name, prefixes=prefixes)
    _backends[name] = backend
    _prefixes.update(dict.fromkeys([prefixes] if isinstance(prefixes, str) else prefixes or (), backend))
    return backend


def prefix_of(uri: PathLike | None) -> str:
    """Returns the prefix of a path, such as "s3", or "" if it has none."""
    start, found, _ = os.fspath(uri or "").partition("://")
    return start.rpartition(":")[2] if found else ""


def get_file_backend(
    uri: PathLike | None = None, *, backend_args: Options = None, enable_singleton: bool = False
) -> Any:
    """Returns the backend specified in `backend_args` or, by default, the backend for the path's prefix.

    Calls with the same arguments return the same object.

    Args:
        uri: The path.
        backend_args: A dict with the backend's name under `backend`, and the arguments for the backend's constructor.
        enable_singleton: Ignored.

    Raises:
        ArgumentError: `backend_args` contains the name of an unknown backend.
    """
    options = dict(backend_args or {})
    name = options.pop("backend", None)
    if name is not None and name not in _backends:
        notes = [f"Registered backends: {', '.join(_backends)}."]
        raise ArgumentError("unknown file backend", found=name, suggestion=nearest(name, _backends), notes=notes)
    # fsspec may support a prefix even if no backend is registered for it.
    kind = _backends[name] if name is not None else _prefixes.get(prefix_of(uri), _FileSystemBackend)
    key = kind, str(options)
    if key not in instances:
        instances[key] = kind(**options)
    return instances[key]


instances: dict[tuple[type, str], BaseStorageBackend] = {}


class FileClient:
    """The predecessor of `get_file_backend`. Creating a client returns the backend itself.

    Args:
        backend: The name of a backend, which takes precedence over `prefix`. With neither, uses the local backend.
        prefix: A path prefix that selects the backend, such as "s3".
        options: Arguments for the backend.
    """

    _instances: ClassVar[dict[tuple[type, str], BaseStorageBackend]] = instances

    def __new__(cls, backend: str | None = None, prefix: str | None = None, **options: Any) -> Any:
        return get_file_backend(f"{prefix}://" if prefix else None, backend_args={"backend": backend, **options})

    @classmethod
    def infer_client(cls, file_client_args: Options = None, uri: PathLike | None = None) -> Any:
        """Returns the backend for the given arguments, or for the prefix of a path."""
        return cls(**file_client_args) if file_client_args else cls(prefix=prefix_of(uri) or None)

    @staticmethod
    def parse_uri_prefix(uri: PathLike) -> str | None:
        """Returns the prefix of a path, or None if it has none."""
        return prefix_of(uri) or None

    register_backend = staticmethod(register_backend)


def _call_backend(method: str, which: int, /, *args: Any, backend_args: Options = None, **kwargs: Any) -> Any:
    """Calls a method of the storage backend for a path.

    Args:
        method: The name of the method.
        which: The index of the path argument that determines the backend.
        args: Arguments for the method.
        backend_args: See `get_file_backend`.
        kwargs: Arguments for the method.
    """
    path = args[which] if len(args) > which else kwargs.get("filepath", kwargs.get("dir_path"))
    return getattr(get_file_backend(path, backend_args=backend_args), method)(*args, **kwargs)


get, get_text, exists, isdir, isfile, remove, join_path, list_dir_or_file, get_local_path = (
    partial(_call_backend, method, 0)
    for method in (
        "get",
        "get_text",
        "exists",
        "isdir",
        "isfile",
        "remove",
        "join_path",
        "list_dir_or_file",
        "get_local_path",
    )
)
put, put_text = (partial(_call_backend, method, 1) for method in ("put", "put_text"))


def _as_json(value: Any) -> Any:
    if isinstance(value, set | range):
        return list(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"JSON cannot represent the type {type(value).__name__}. Found: {value!r}")


def _unpickle(stream: Any, **kwargs: Any) -> Any:
    return read_plain_pickle(stream.read(), **kwargs)


_Handler = tuple[Callable[..., Any], Callable[..., Any]]
_JSON: _Handler = json.load, partial(json.dumps, default=_as_json)
_YAML: _Handler = partial(yaml.load, Loader=yaml.SafeLoader), partial(yaml.dump, Dumper=yaml.SafeDumper)
_PICKLE: _Handler = _unpickle, partial(pickle.dumps, protocol=2)
file_handlers = {"json": _JSON, "yaml": _YAML, "yml": _YAML, "pickle": _PICKLE, "pkl": _PICKLE}
"""Maps each file format to the functions that read and write it."""


class BaseFileHandler:
    """Base class for a file format. Subclasses define `load_from_fileobj(file)` and `dump_to_fileobj(obj, file)`.

    Attributes:
        str_like: Whether files of this format are text.
    """

    str_like = True


def register_handler(file_formats: str | list[str], **kwargs: Any) -> Callable[[Any], Any]:
    """Returns a decorator that adds a handler class for one or more formats. Its constructor receives `kwargs`."""

    def register(kind: Any) -> Any:
        handler = kind(**kwargs)

        def read(file: Any, **options: Any) -> Any:
            is_text = handler.str_like and isinstance(file, io.BytesIO)
            return handler.load_from_fileobj(io.TextIOWrapper(file, "utf-8") if is_text else file, **options)

        def write(obj: Any, **options: Any) -> Any:
            stream = io.StringIO() if handler.str_like else io.BytesIO()
            handler.dump_to_fileobj(obj, stream, **options)
            return stream.getvalue()

        names = [file_formats] if isinstance(file_formats, str) else file_formats
        file_handlers.update(dict.fromkeys(names, (read, write)))
        return kind

    return register


def _handler(file: Any, file_format: str | None) -> _Handler:
    name = file_format or (Path(file).suffix[1:] if is_filepath(file) else "")
    if name not in file_handlers:
        raise TypeError(f"The file format '{name}' is unknown. Set file_format to one of {', '.join(file_handlers)}.")
    return file_handlers[name]


def load(
    file: Any,
    file_format: str | None = None,
    file_client_args: Options = None,
    backend_args: Options = None,
    **kwargs: Any,
) -> Any:
    """Loads an object from a JSON, YAML or pickle file.

    Args:
        file: A path on any storage backend, or an open file.
        file_format: The format. By default, it is derived from the suffix of the path. Required for an open file.
        file_client_args: An old name for `backend_args`.
        backend_args: See `get_file_backend`.
        kwargs: Additional arguments for the reader.

    Raises:
        DataError: A pickle file refers to a class that is not one of the permitted data types.
        TypeError: The format is unknown.
    """
    read, _ = _handler(file, file_format)
    if is_filepath(file):
        file = io.BytesIO(get_file_backend(file, backend_args=backend_args or file_client_args).get(file))
    return read(file, **kwargs)


def dump(
    obj: Any,
    file: Any = None,
    file_format: str | None = None,
    file_client_args: Options = None,
    backend_args: Options = None,
    **kwargs: Any,
) -> Any:
    """Writes an object to a JSON, YAML or pickle file, or returns the content if `file` is None.

    Args:
        obj: The object.
        file: A path on any storage backend, an open file, or None.
        file_format: The format. By default, it is derived from the suffix of the path. Required without a path.
        file_client_args: An old name for `backend_args`.
        backend_args: See `get_file_backend`.
        kwargs: Additional arguments for the writer.

    Raises:
        TypeError: The format is unknown.
    """
    _, write = _handler(file, file_format)
    content = write(obj, **kwargs)
    if file is None:
        return content
    if not is_filepath(file):
        return file.write(content)
    backend = get_file_backend(file, backend_args=backend_args or file_client_args)
    return (backend.put_text if isinstance(content, str) else backend.put)(content, file)


def list_from_file(
    filename: PathLike,
    prefix: str = "",
    offset: int = 0,
    max_num: int = 0,
    encoding: str = "utf-8",
    file_client_args: Options = None,
    backend_args: Options = None,
) -> list[str]:
    """Returns the lines of a text file, with `prefix` prepended to each line.

    Args:
        filename: The file.
        prefix: The string to prepend to each line.
        offset: The number of lines to skip at the start.
        max_num: The maximum number of lines to return; 0 returns all lines.
        encoding: The encoding of the file.
        file_client_args: An old name for `backend_args`.
        backend_args: See `get_file_backend`.
    """
    text = get_text(filename, encoding, backend_args=backend_args or file_client_args)
    lines = [prefix + line.rstrip("\n\r") for line in io.StringIO(text)][offset:]
    return lines[:max_num] if max_num > 0 else lines


def is_filepath(x: object) -> bool:
    """Checks whether a value is a string or a `Path`."""
    return isinstance(x, str | Path)


def is_abs(path: str) -> bool:
    """Checks whether a path is absolute. URLs and `s3://` paths count as absolute."""
    return os.path.isabs(path) or path.startswith(("http://", "https://", "s3://"))


def check_file_exist(filename: str | Path, msg_tmpl: str = "The file '{}' does not exist.") -> None:
    """Raises FileNotFoundError if a file does not exist."""
    if not os.path.isfile(filename):
        raise FileNotFoundError(msg_tmpl.format(filename))


def mkdir_or_exist(dir_name: str | Path, mode: int = 0o777) -> None:
    """Creates a folder and its parents if they do not exist. Expands `~` to the home folder."""
    Path(dir_name).expanduser().mkdir(mode=mode, parents=True, exist_ok=True)


def symlink(src: str | Path, dst: str | Path, overwrite: bool = True, **kwargs: Any) -> None:
    """Creates a symbolic link `dst` to `src`. If `overwrite` is set, replaces an existing file."""
    if overwrite and os.path.lexists(dst):
        os.remove(dst)
    os.symlink(src, dst, **kwargs)


def scandir(
    dir_path: str | Path,
    suffix: str | tuple[str, ...] | None = None,
    recursive: bool = False,
    case_sensitive: bool = True,
) -> Iterator[str]:
    """Returns the paths of the files in a folder, relative to the folder. Skips hidden files, but not hidden folders.

    Args:
        dir_path: The folder.
        suffix: One or more suffixes; only files with these suffixes are returned.
        recursive: Whether to include subfolders.
        case_sensitive: Whether suffixes are case-sensitive.
    """
    fold = str if case_sensitive else str.lower
    suffixes = tuple(map(fold, suffix if isinstance(suffix, tuple) else [suffix or ""]))
    files = LocalBackend().list_dir_or_file(dir_path, list_dir=False, recursive=recursive)
    return (name for name in files if fold(name).endswith(suffixes))
