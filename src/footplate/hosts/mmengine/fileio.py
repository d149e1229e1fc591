"""Reads and writes files on any storage: `mmengine.fileio`, its backends, and files as objects."""

import io
import json
import os
import pickle
import shutil
import tempfile
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from typing_extensions import override

from footplate import storage
from footplate.errors import ArgumentError, CheckpointError, MissingExtraError
from footplate.messages import nearest
from footplate.storage.file_operations import file_system

PathLike = str | Path
Options = Mapping[str, Any] | None


class BaseStorageBackend(metaclass=ABCMeta):
    """The base of backends: reads a file as bytes or as text."""

    _allow_symlink = False

    @property
    def allow_symlink(self) -> bool:
        """Whether links can be made on this storage."""
        return self._allow_symlink

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    @abstractmethod
    def get(self, filepath: Any) -> bytes:
        """Returns the content of a file."""

    @abstractmethod
    def get_text(self, filepath: Any, encoding: str = "utf-8") -> str:
        """Returns the content of a text file."""


class _FileSystemBackend(BaseStorageBackend):
    """A backend on any storage that fsspec supports, by the protocol of the path."""

    def _path(self, filepath: PathLike) -> str:
        return os.fspath(filepath)

    @override
    def get(self, filepath: PathLike) -> bytes:
        return storage.read_bytes(self._path(filepath))

    @override
    def get_text(self, filepath: PathLike, encoding: str = "utf-8") -> str:
        return self.get(filepath).decode(encoding)

    def put(self, obj: bytes | io.BytesIO, filepath: PathLike) -> None:
        """Writes a file, and the folders above it."""
        data = obj.getvalue() if isinstance(obj, io.BytesIO) else obj
        path = self._path(filepath)
        storage.make_dirs(storage.parent(path))
        storage.commit_bytes(path, data)

    def put_text(self, obj: str, filepath: PathLike, encoding: str = "utf-8") -> None:
        """Writes a text file, and the folders above it."""
        self.put(obj.encode(encoding), filepath)

    def exists(self, filepath: PathLike) -> bool:
        """Checks whether there is a file or a folder."""
        return storage.exists(self._path(filepath))

    def isdir(self, filepath: PathLike) -> bool:
        """Checks whether it is a folder."""
        return bool(self._system(filepath, "isdir"))

    def isfile(self, filepath: PathLike) -> bool:
        """Checks whether it is a file."""
        return bool(self._system(filepath, "isfile"))

    def _system(self, filepath: PathLike, method: str, *arguments: Any, **options: Any) -> Any:
        system, path = file_system(self._path(filepath))
        return getattr(system, method)(path, *arguments, **options)

    def join_path(self, filepath: PathLike, *filepaths: PathLike) -> str:
        """Joins a path and names."""
        return storage.join(self._path(filepath), *(os.fspath(each) for each in filepaths))

    @contextmanager
    def get_local_path(self, filepath: PathLike) -> Iterator[PathLike]:
        """Yields a path on this machine; a file elsewhere is copied for the duration of the block."""
        with tempfile.TemporaryDirectory(prefix="footplate-") as folder:
            local = os.path.join(folder, storage.base_name(self._path(filepath)))
            Path(local).write_bytes(self.get(filepath))
            yield local

    def copyfile(self, src: PathLike, dst: PathLike) -> str:
        """Copies a file into a folder or to a path on this storage; returns the path of the copy."""
        return self._copy_file(src, dst, self.get, self.put, self.isdir)

    def copyfile_from_local(self, src: PathLike, dst: PathLike) -> str:
        """Copies a file of this machine to this storage; returns the path of the copy."""
        return self._copy_file(src, dst, lambda path: Path(path).read_bytes(), self.put, self.isdir)

    def copyfile_to_local(self, src: PathLike, dst: PathLike) -> str:
        """Copies a file of this storage to this machine; returns the path of the copy."""
        return self._copy_file(src, dst, self.get, LocalBackend().put, os.path.isdir)

    @staticmethod
    def _copy_file(
        src: PathLike,
        dst: PathLike,
        read: Callable[[PathLike], bytes],
        write: Callable[[bytes, PathLike], None],
        is_folder: Callable[[PathLike], bool],
    ) -> str:
        target = os.fspath(dst)
        if is_folder(target):
            target = storage.join(target, storage.base_name(os.fspath(src)))
        write(read(src), target)
        return target

    def copytree(self, src: PathLike, dst: PathLike) -> str:
        """Copies a folder to a path that does not exist yet; returns that path."""
        return self._copy_tree(src, dst, self, self)

    def copytree_from_local(self, src: PathLike, dst: PathLike) -> str:
        """Copies a folder of this machine to this storage; returns its path there."""
        return self._copy_tree(src, dst, LocalBackend(), self)

    def copytree_to_local(self, src: PathLike, dst: PathLike) -> str:
        """Copies a folder of this storage to this machine; returns its path there."""
        return self._copy_tree(src, dst, self, LocalBackend())

    @staticmethod
    def _copy_tree(src: PathLike, dst: PathLike, source: "_FileSystemBackend", target: "_FileSystemBackend") -> str:
        if target.exists(dst):
            raise FileExistsError(f"'{dst}' exists. Pass a path that does not exist yet.")
        for name in source.list_dir_or_file(src, list_dir=False, recursive=True):
            target.put(source.get(source.join_path(src, name)), target.join_path(dst, name))
        return os.fspath(dst)

    def remove(self, filepath: PathLike) -> None:
        """Removes a file.

        Raises:
            FileNotFoundError: It does not exist.
            IsADirectoryError: It is a folder.
        """
        if self.isdir(filepath):
            raise IsADirectoryError(f"'{filepath}' is a folder.")
        if not self.exists(filepath):
            raise FileNotFoundError(f"'{filepath}' does not exist.")
        storage.remove(self._path(filepath))

    def rmtree(self, dir_path: PathLike) -> None:
        """Removes a folder and everything in it."""
        self._system(dir_path, "rm", recursive=True)

    def copy_if_symlink_fails(self, src: PathLike, dst: PathLike) -> bool:
        """Links `dst` to `src` if this storage has links, and copies otherwise; returns whether it is a link."""
        (self.copytree if self.isdir(src) else self.copyfile)(src, dst)
        return False

    def list_dir_or_file(
        self,
        dir_path: PathLike,
        list_dir: bool = True,
        list_file: bool = True,
        suffix: str | tuple[str, ...] | None = None,
        recursive: bool = False,
    ) -> Iterator[str]:
        """Yields the paths of folders and files relative to `dir_path`, without hidden files.

        Args:
            dir_path: The folder.
            list_dir: Whether to yield folders.
            list_file: Whether to yield files.
            suffix: The ends of file names to yield; None yields all. Only without `list_dir`.
            recursive: Whether to enter folders.

        Raises:
            TypeError: `suffix` is given for folders, or is not a string or a tuple of strings.
        """
        if list_dir and suffix is not None:
            raise TypeError("Pass list_dir=False with 'suffix': folders have no suffix.")
        if suffix is not None and not isinstance(suffix, str | tuple):
            raise TypeError(f"'suffix' must be a string or a tuple of strings, not {type(suffix).__name__}.")
        return self._entries(self._path(dir_path), "", list_dir, list_file, suffix, recursive)

    def _entries(
        self, folder: str, prefix: str, list_dir: bool, list_file: bool, suffix: Any, recursive: bool
    ) -> Iterator[str]:
        for name in sorted(storage.list_dir(folder)):
            path = storage.join(folder, name)
            if self.isdir(path):
                if list_dir:
                    yield prefix + name
                if recursive:
                    yield from self._entries(path, f"{prefix}{name}/", list_dir, list_file, suffix, recursive)
            elif list_file and not name.startswith(".") and (suffix is None or name.endswith(suffix)):
                yield prefix + name


class LocalBackend(_FileSystemBackend):
    """Files of this machine."""

    _allow_symlink = True

    @override
    @contextmanager
    def get_local_path(self, filepath: PathLike) -> Iterator[PathLike]:
        yield filepath

    @override
    def copy_if_symlink_fails(self, src: PathLike, dst: PathLike) -> bool:
        try:
            os.symlink(src, dst)
        except OSError:
            return super().copy_if_symlink_fails(src, dst)
        return True

    @override
    def rmtree(self, dir_path: PathLike) -> None:
        shutil.rmtree(dir_path)


class HardDiskBackend(LocalBackend):
    """An old name of `LocalBackend`."""


class HTTPBackend(_FileSystemBackend):
    """Files at addresses; they can only be read."""


class PetrelBackend(_FileSystemBackend):
    """Files in an object store, such as `s3://bucket/name`. footplate reads them with fsspec.

    Args:
        path_mapping: The start of a path -> what to replace it by.
        enable_mc: Not used.
        conf_path: Not used: fsspec reads its own configuration.
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
    """Values of an LMDB database, by key.

    Args:
        db_path: The database.
        readonly: See `lmdb.open`.
        lock: See `lmdb.open`.
        readahead: See `lmdb.open`.
        options: Further options of `lmdb.open`.

    Raises:
        MissingExtraError: The package lmdb is not installed.
    """

    def __init__(
        self, db_path: PathLike, readonly: bool = True, lock: bool = False, readahead: bool = False, **options: Any
    ) -> None:
        try:
            import lmdb  # type: ignore[import-not-found]
        except ImportError as error:
            raise MissingExtraError("lmdb", extra="hosts", why="The file backend 'lmdb'") from error
        self._database = lmdb.open(os.fspath(db_path), readonly=readonly, lock=lock, readahead=readahead, **options)

    @override
    def get(self, filepath: PathLike) -> bytes:
        with self._database.begin(write=False) as transaction:
            return bytes(transaction.get(os.fspath(filepath).encode("ascii")))

    @override
    def get_text(self, filepath: PathLike, encoding: str = "utf-8") -> str:
        return self.get(filepath).decode(encoding)


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
    """Registers a backend under a name and for prefixes of paths; works as a decorator as well.

    Args:
        name: The name in `backend_args`.
        backend: The class; None returns a decorator.
        force: Whether to replace a registered backend.
        prefixes: The prefixes, such as "s3" for `s3://...`.

    Raises:
        KeyError: The name or a prefix is taken and `force` is not set.
        TypeError: It is not a backend.
    """

    def register(found: type[BaseStorageBackend]) -> type[BaseStorageBackend]:
        if not (isinstance(found, type) and issubclass(found, BaseStorageBackend)):
            raise TypeError(f"A backend must be a subclass of BaseStorageBackend, not {found!r}.")
        starts = [prefixes] if isinstance(prefixes, str) else list(prefixes or ())
        for key, table in [(name, _backends), *((start, _prefixes) for start in starts)]:
            if key in table and table[key] is not found and not force:
                raise KeyError(f"'{key}' is taken by {table[key].__name__}. Pass force=True to replace it.")
        _backends[name] = found
        _prefixes.update(dict.fromkeys(starts, found))
        return found

    return register if backend is None else register(backend)


def _prefix_of(uri: PathLike | None) -> str:
    text = os.fspath(uri) if uri is not None else ""
    start, found, _ = text.partition("://")
    return start.rpartition(":")[2] if found else ""


def get_file_backend(
    uri: PathLike | None = None, *, backend_args: Options = None, enable_singleton: bool = False
) -> Any:
    """Returns the backend for a path, by `backend_args` or by the prefix of the path.

    Args:
        uri: The path.
        backend_args: The name of a backend under `backend`, and arguments of its constructor.
        enable_singleton: Whether to return the same object for the same arguments.

    Raises:
        ArgumentError: There is no such backend.
    """
    options = dict(backend_args or {})
    name = options.pop("backend", None)
    if name is not None and name not in _backends:
        near = nearest(name, _backends)
        raise ArgumentError(
            f"There is no file backend '{name}'{f': did you mean {near!r}?' if near else '.'} "
            f"Known backends: {', '.join(_backends)}."
        )
    # A prefix that no backend has may be one that fsspec knows.
    kind = _backends[name] if name is not None else _prefixes.get(_prefix_of(uri), _FileSystemBackend)
    if not enable_singleton:
        return kind(**options)
    key = f"{kind.__module__}.{kind.__qualname__}:{json.dumps(options, sort_keys=True, default=repr)}"
    if key not in _instances:
        _instances[key] = kind(**options)
    return _instances[key]


_instances: dict[str, BaseStorageBackend] = {}


class FileClient:
    """Reads and writes files through a backend; the interface before `get_file_backend`.

    Args:
        backend: The name of a backend; None chooses by prefix.
        prefix: The prefix of paths, such as "s3".
        options: Arguments of the backend.
    """

    _instances: ClassVar[dict[str, BaseStorageBackend]] = _instances

    def __init__(self, backend: str | None = None, prefix: str | None = None, **options: Any) -> None:
        named = {"backend": backend} if backend is not None else {}
        self.client = get_file_backend(f"{prefix}://" if prefix else None, backend_args={**named, **options})

    def __getattr__(self, name: str) -> Any:
        if name == "client":
            raise AttributeError(name)
        return getattr(self.client, name)

    @classmethod
    def infer_client(cls, file_client_args: Options = None, uri: PathLike | None = None) -> "FileClient":
        """Returns a client by its arguments, or for the prefix of a path."""
        return cls(**file_client_args) if file_client_args else cls(prefix=_prefix_of(uri) or None)

    @staticmethod
    def parse_uri_prefix(uri: PathLike) -> str | None:
        """Returns the prefix of a path, or None."""
        return _prefix_of(uri) or None

    register_backend = staticmethod(register_backend)


def _through_backend(method: str, which: int = 0) -> Callable[..., Any]:
    """Makes a function that calls a method of the backend for its path.

    Args:
        method: The method.
        which: The position of the argument that decides which backend.
    """

    def call(*args: Any, backend_args: Options = None, **kwargs: Any) -> Any:
        names = {"filepath", "dir_path", "src" if which == 0 else "dst"}
        path = args[which] if len(args) > which else next((kwargs[name] for name in kwargs if name in names), None)
        backend = get_file_backend(path, backend_args=backend_args, enable_singleton=True)
        return getattr(backend, method)(*args, **kwargs)

    call.__name__ = call.__qualname__ = method
    call.__doc__ = f"Calls `{method}` of the backend for the path; `backend_args` chooses another backend."
    return call


get, get_text, exists, isdir, isfile = map(_through_backend, ("get", "get_text", "exists", "isdir", "isfile"))
join_path, list_dir_or_file, get_local_path = map(_through_backend, ("join_path", "list_dir_or_file", "get_local_path"))
remove, rmtree, copyfile, copytree = map(_through_backend, ("remove", "rmtree", "copyfile", "copytree"))
copyfile_to_local, copytree_to_local = map(_through_backend, ("copyfile_to_local", "copytree_to_local"))
put, put_text = _through_backend("put", 1), _through_backend("put_text", 1)
copyfile_from_local, copytree_from_local = (
    _through_backend("copyfile_from_local", 1),
    _through_backend("copytree_from_local", 1),
)
copy_if_symlink_fails = _through_backend("copy_if_symlink_fails", 1)


class BaseFileHandler(metaclass=ABCMeta):
    """Reads and writes objects in one file format.

    Attributes:
        str_like: Whether the format is text.
    """

    str_like = True

    @abstractmethod
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Returns the object in an open file."""

    @abstractmethod
    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        """Writes an object to an open file."""

    @abstractmethod
    def dump_to_str(self, obj: Any, **kwargs: Any) -> Any:
        """Returns the text, or the bytes, of an object."""

    def load_from_path(self, filepath: PathLike, mode: str = "r", **kwargs: Any) -> Any:
        """Returns the object in a file."""
        with open(filepath, mode if self.str_like else "rb") as file:
            return self.load_from_fileobj(file, **kwargs)

    def dump_to_path(self, obj: Any, filepath: PathLike, mode: str = "w", **kwargs: Any) -> None:
        """Writes an object to a file."""
        with open(filepath, mode if self.str_like else "wb") as file:
            self.dump_to_fileobj(obj, file, **kwargs)


def _as_json(value: Any) -> Any:
    if isinstance(value, set | range):
        return list(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"JSON has no type for {type(value).__name__}: {value!r}")


class JsonHandler(BaseFileHandler):
    """JSON; NumPy values and sets become numbers and lists."""

    @override
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return json.load(file, **kwargs)

    @override
    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        file.write(self.dump_to_str(obj, **kwargs))

    @override
    def dump_to_str(self, obj: Any, **kwargs: Any) -> str:
        return json.dumps(obj, **{"default": _as_json, **kwargs})


class YamlHandler(BaseFileHandler):
    """YAML, without tags that build objects."""

    @override
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, **{"Loader": yaml.SafeLoader, **kwargs})

    @override
    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        file.write(self.dump_to_str(obj, **kwargs))

    @override
    def dump_to_str(self, obj: Any, **kwargs: Any) -> str:
        return str(yaml.dump(obj, **{"Dumper": yaml.SafeDumper, **kwargs}))


# Modules whose classes only hold data, and names of others that rebuild data.
_DATA_MODULES = ("collections", "datetime", "decimal", "fractions", "uuid", "numpy.dtypes")
_DATA_NAMES = {
    "builtins": {"set", "frozenset", "complex", "slice", "range", "bytearray", "object", "int", "float", "str", "bool"},
    "_codecs": {"encode"},
    "copyreg": {"_reconstructor"},
    "pathlib": {"PurePath", "PurePosixPath", "PosixPath", "Path"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
}


class _DataUnpickler(pickle.Unpickler):
    """Reads pickles of plain data: numbers, texts, containers and arrays."""

    def find_class(self, module: str, name: str) -> Any:
        if (module in _DATA_MODULES and name[0].isalpha()) or name in _DATA_NAMES.get(module, ()):
            return super().find_class(module, name)
        raise CheckpointError(
            f"A pickle file names '{module}.{name}', which may execute code. footplate only reads plain data from "
            "pickle files. If you trust the file, read it with Python's own pickle.load."
        )


class PickleHandler(BaseFileHandler):
    """Pickle. Only plain data is read; a file that names other classes is refused.

    Raises:
        CheckpointError: The file names a class that is not data.
    """

    str_like = False

    @override
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return _DataUnpickler(file, **kwargs).load()

    @override
    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        file.write(self.dump_to_str(obj, **kwargs))

    @override
    def dump_to_str(self, obj: Any, **kwargs: Any) -> bytes:
        return pickle.dumps(obj, **{"protocol": 2, **kwargs})


file_handlers: dict[str, BaseFileHandler] = {
    "json": JsonHandler(),
    "yaml": YamlHandler(),
    "yml": YamlHandler(),
    "pickle": PickleHandler(),
    "pkl": PickleHandler(),
}


def register_handler(file_formats: str | list[str], **kwargs: Any) -> Callable[[type], type]:
    """Makes a decorator that registers a class as the handler of file formats."""

    def register(handler: type) -> type:
        for name in [file_formats] if isinstance(file_formats, str) else file_formats:
            file_handlers[name] = handler(**kwargs)
        return handler

    return register


def _handler(file: Any, file_format: str | None) -> BaseFileHandler:
    name = file_format or (Path(file).suffix[1:] if isinstance(file, str | Path) else None)
    if name is None:
        raise ValueError("Pass file_format: only a path has a suffix that tells it.")
    if name not in file_handlers:
        raise TypeError(f"Files of the format '{name}' cannot be read or written. Known: {', '.join(file_handlers)}.")
    return file_handlers[name]


def load(
    file: Any,
    file_format: str | None = None,
    file_client_args: Options = None,
    backend_args: Options = None,
    **kwargs: Any,
) -> Any:
    """Returns the object in a JSON, YAML or pickle file.

    Args:
        file: A path on any storage, or an open file.
        file_format: The format; None takes the suffix of the path.
        file_client_args: An old name of `backend_args`.
        backend_args: See `get_file_backend`.
        kwargs: Arguments of the reader.

    Raises:
        CheckpointError: A pickle file names a class that is not data.
        TypeError: The format is not known.
    """
    handler = _handler(file, file_format)
    if not isinstance(file, str | Path):
        return handler.load_from_fileobj(file, **kwargs)
    backend = get_file_backend(file, backend_args=backend_args or file_client_args)
    stream = io.StringIO(backend.get_text(file)) if handler.str_like else io.BytesIO(backend.get(file))
    return handler.load_from_fileobj(stream, **kwargs)


def dump(
    obj: Any,
    file: Any = None,
    file_format: str | None = None,
    file_client_args: Options = None,
    backend_args: Options = None,
    **kwargs: Any,
) -> Any:
    """Writes an object to a JSON, YAML or pickle file; returns the content if there is no file.

    Args:
        obj: The object.
        file: A path on any storage, an open file, or None.
        file_format: The format; None takes the suffix of the path.
        file_client_args: An old name of `backend_args`.
        backend_args: See `get_file_backend`.
        kwargs: Arguments of the writer.
    """
    handler = _handler(file, file_format)
    if file is None:
        return handler.dump_to_str(obj, **kwargs)
    if not isinstance(file, str | Path):
        return handler.dump_to_fileobj(obj, file, **kwargs)
    content = handler.dump_to_str(obj, **kwargs)
    backend = get_file_backend(file, backend_args=backend_args or file_client_args)
    return backend.put_text(content, file) if handler.str_like else backend.put(content, file)


def list_from_file(
    filename: PathLike,
    prefix: str = "",
    offset: int = 0,
    max_num: int = 0,
    encoding: str = "utf-8",
    file_client_args: Options = None,
    backend_args: Options = None,
) -> list[str]:
    """Returns the lines of a text file, each after `prefix`.

    Args:
        filename: The file.
        prefix: A text before each line.
        offset: How many lines to leave out at the start.
        max_num: How many lines to return; 0 returns all.
        encoding: The encoding of the file.
        file_client_args: An old name of `backend_args`.
        backend_args: See `get_file_backend`.
    """
    text = get_text(filename, encoding, backend_args=backend_args or file_client_args)
    lines = [prefix + line.rstrip("\n\r") for line in io.StringIO(text)][offset:]
    return lines[:max_num] if max_num > 0 else lines


def dict_from_file(
    filename: PathLike,
    key_type: Callable[[str], Any] = str,
    encoding: str = "utf-8",
    file_client_args: Options = None,
    backend_args: Options = None,
) -> dict[Any, Any]:
    """Returns a text file as a dict: the first word of a line -> the second, or a list of the others."""
    mapping = {}
    for line in list_from_file(filename, encoding=encoding, backend_args=backend_args or file_client_args):
        key, *values = line.split(" ")
        mapping[key_type(key)] = values if len(values) > 1 else values[0]
    return mapping
