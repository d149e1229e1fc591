"""The functions of `mmengine.fileio` for files and objects on any storage backend, and the helpers for paths."""

import io
import json
import os
import pickle
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from typing_extensions import override

from footplate.data.annotations import DataUnpickler
from footplate.openmmlab.mmengine.storage_backends import (
    BaseStorageBackend,
    LocalBackend,
    Options,
    PathLike,
    get_file_backend,
    instances,
    prefix_of,
    register_backend,
)


class FileClient:
    """Reads and writes files through a backend. It is the predecessor of `get_file_backend`.

    Args:
        backend: The name of a backend. By default, the backend is chosen by the prefix of the path.
        prefix: The prefix of paths, such as "s3".
        options: Arguments for the backend.
    """

    _instances: ClassVar[dict[str, BaseStorageBackend]] = instances

    def __init__(self, backend: str | None = None, prefix: str | None = None, **options: Any) -> None:
        named = {"backend": backend} if backend is not None else {}
        self.client = get_file_backend(f"{prefix}://" if prefix else None, backend_args={**named, **options})

    def __getattr__(self, name: str) -> Any:
        if name == "client":
            raise AttributeError(name)
        return getattr(self.client, name)

    @classmethod
    def infer_client(cls, file_client_args: Options = None, uri: PathLike | None = None) -> "FileClient":
        """Returns the client for the given arguments, or for the prefix of a path."""
        return cls(**file_client_args) if file_client_args else cls(prefix=prefix_of(uri) or None)

    @staticmethod
    def parse_uri_prefix(uri: PathLike) -> str | None:
        """Returns the prefix of a path, or None."""
        return prefix_of(uri) or None

    register_backend = staticmethod(register_backend)


def _through_backend(method: str, which: int = 0) -> Callable[..., Any]:
    """Returns a function that calls a method of the storage backend to which a path belongs.

    Args:
        method: The name of the method.
        which: The position of the path argument that determines the backend.
    """

    def call(*args: Any, backend_args: Options = None, **kwargs: Any) -> Any:
        names = {"filepath", "dir_path", "src" if which == 0 else "dst"}
        path = args[which] if len(args) > which else next((kwargs[name] for name in kwargs if name in names), None)
        backend = get_file_backend(path, backend_args=backend_args, enable_singleton=True)
        return getattr(backend, method)(*args, **kwargs)

    call.__name__ = call.__qualname__ = method
    call.__doc__ = f"Calls `{method}` of the backend for the path; `backend_args` selects another backend."
    return call


get, get_text, exists, isdir, isfile = map(_through_backend, ("get", "get_text", "exists", "isdir", "isfile"))
join_path, list_dir_or_file, get_local_path = map(_through_backend, ("join_path", "list_dir_or_file", "get_local_path"))
remove, rmtree, copyfile, copytree = map(_through_backend, ("remove", "rmtree", "copyfile", "copytree"))
copyfile_to_local, copytree_to_local = map(_through_backend, ("copyfile_to_local", "copytree_to_local"))
put, put_text, copyfile_from_local, copytree_from_local, copy_if_symlink_fails = (
    _through_backend(method, 1)
    for method in ("put", "put_text", "copyfile_from_local", "copytree_from_local", "copy_if_symlink_fails")
)


class BaseFileHandler(metaclass=ABCMeta):
    """Reads and writes objects in one file format.

    Attributes:
        str_like: Whether the format is text.
    """

    str_like = True

    @abstractmethod
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Reads an object from an open file."""

    @abstractmethod
    def dump_to_str(self, obj: Any, **kwargs: Any) -> Any:
        """Serializes an object to text or bytes."""

    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        """Writes an object to an open file."""
        file.write(self.dump_to_str(obj, **kwargs))

    def load_from_path(self, filepath: PathLike, mode: str = "r", **kwargs: Any) -> Any:
        """Reads an object from a file."""
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
    raise TypeError(f"JSON cannot represent the type {type(value).__name__}. Found: {value!r}")


class JsonHandler(BaseFileHandler):
    """Reads and writes JSON. NumPy values and sets become numbers and lists."""

    @override
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return json.load(file, **kwargs)

    @override
    def dump_to_str(self, obj: Any, **kwargs: Any) -> str:
        return json.dumps(obj, **{"default": _as_json, **kwargs})


class YamlHandler(BaseFileHandler):
    """Reads and writes YAML. Tags that construct objects are not supported."""

    @override
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, **{"Loader": yaml.SafeLoader, **kwargs})

    @override
    def dump_to_str(self, obj: Any, **kwargs: Any) -> str:
        return str(yaml.dump(obj, **{"Dumper": yaml.SafeDumper, **kwargs}))


class PickleHandler(BaseFileHandler):
    """Reads and writes pickle files. Files that refer to classes other than plain data are rejected.

    Raises:
        DataError: The file refers to a class other than the permitted data types.
    """

    str_like = False

    @override
    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return DataUnpickler(file, **kwargs).load()

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
    """Returns a decorator that registers a class as the handler of file formats."""

    def register(handler: type) -> type:
        for name in [file_formats] if isinstance(file_formats, str) else file_formats:
            file_handlers[name] = handler(**kwargs)
        return handler

    return register


def _handler(file: Any, file_format: str | None) -> BaseFileHandler:
    name = file_format or (Path(file).suffix[1:] if isinstance(file, str | Path) else "")
    if name not in file_handlers:
        raise TypeError(f"The file format '{name}' is unknown. Pass as file_format one of {', '.join(file_handlers)}.")
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
        file_format: The format. By default, it is derived from the suffix of the path.
        file_client_args: An old name for `backend_args`.
        backend_args: See `get_file_backend`.
        kwargs: Additional arguments for the reader.

    Raises:
        DataError: A pickle file refers to a class other than the permitted data types.
        TypeError: The format is unknown.
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
    """Writes an object to a JSON, YAML or pickle file, or returns the content if there is no file.

    Args:
        obj: The object.
        file: A path on any storage backend, an open file, or None.
        file_format: The format. By default, it is derived from the suffix of the path.
        file_client_args: An old name for `backend_args`.
        backend_args: See `get_file_backend`.
        kwargs: Additional arguments for the writer.
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
    """Returns the lines of a text file, with `prefix` prepended to each line.

    Args:
        filename: The file.
        prefix: The text to prepend to each line.
        offset: The number of lines to skip at the start.
        max_num: The maximum number of lines to return; 0 returns all lines.
        encoding: The encoding of the file.
        file_client_args: An old name for `backend_args`.
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
    """Reads a dict from a text file. Each line contains a key, followed by its value or values."""
    mapping = {}
    for line in list_from_file(filename, encoding=encoding, backend_args=backend_args or file_client_args):
        key, *values = line.split(" ")
        mapping[key_type(key)] = values if len(values) > 1 else values[0]
    return mapping


def is_filepath(x: object) -> bool:
    """Checks whether a value is a path: a string or a `Path`."""
    return isinstance(x, str | Path)


def is_abs(path: str) -> bool:
    """Checks whether a path is absolute, or an address in an object store."""
    return os.path.isabs(path) or path.startswith(("http://", "https://", "s3://"))


def check_file_exist(filename: str | Path, msg_tmpl: str = "The file '{}' does not exist.") -> None:
    """Raises FileNotFoundError if a file does not exist."""
    if not os.path.isfile(filename):
        raise FileNotFoundError(msg_tmpl.format(filename))


def mkdir_or_exist(dir_name: str | Path, mode: int = 0o777) -> None:
    """Creates a folder and its parents."""
    Path(dir_name).expanduser().mkdir(mode=mode, parents=True, exist_ok=True)


def symlink(src: str | Path, dst: str | Path, overwrite: bool = True, **kwargs: Any) -> None:
    """Creates a symbolic link `dst` to `src`. Replaces an existing file if `overwrite` is set."""
    if overwrite and os.path.lexists(dst):
        os.remove(dst)
    os.symlink(src, dst, **kwargs)


def scandir(
    dir_path: str | Path,
    suffix: str | tuple[str, ...] | None = None,
    recursive: bool = False,
    case_sensitive: bool = True,
) -> Iterator[str]:
    """Yields the paths of the files in a folder, relative to the folder. Skips hidden files.

    Args:
        dir_path: The folder.
        suffix: The suffixes of the files to yield. By default, all files are yielded.
        recursive: Whether to include subfolders.
        case_sensitive: Whether the suffix is case-sensitive.
    """
    fold = str if case_sensitive else str.lower
    suffixes = tuple(map(fold, suffix if isinstance(suffix, tuple) else [suffix or ""]))
    files = LocalBackend().list_dir_or_file(dir_path, list_dir=False, recursive=recursive)
    return (name for name in files if fold(name).endswith(suffixes))
