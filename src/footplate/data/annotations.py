"""Reads dataset files, with retries and clear errors."""

import io
import json
import logging
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
import yaml

from footplate.errors import DataError, StorageError
from footplate.storage import is_local, join, missing_path_notes, read_bytes

_logger = logging.getLogger("footplate.data")
_RETRY_SECONDS = (1.0, 5.0)  # delays before retries of a failed storage request
Record = dict[str, Any]
_SUFFIXES = (".json", ".yaml", ".yml", ".pkl", ".pickle")
_ADVICE = "If you trust the file, read it with pickle.load; in a dataset, override load_data_list()."
_BUILTINS = {
    "set",
    "frozenset",
    "complex",
    "slice",
    "range",
    "bytes",
    "bytearray",
    "int",
    "float",
    "str",
    "bool",
    "object",
}
# Names needed to rebuild data, keyed by module. All others are rejected, since modules also expose what they import.
_DATA_NAMES = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,  # up to pickle protocol 2
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "_codecs": {"encode"},
    "pathlib": {"PurePath", "PurePosixPath", "PosixPath", "Path"},
    "numpy": {"dtype"},
    "numpy._core.multiarray": {"scalar"},
    "numpy._core.numeric": {"_frombuffer"},
}


@contextmanager
def explain_read_errors(noun: str, path: str) -> Iterator[None]:
    """Converts read errors in the block to footplate errors with the file's path and kind, such as "image".

    Raises:
        DataError: The file does not exist, or a local file cannot be read.
        StorageError: The remote storage cannot be reached, or refuses access.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"the {noun} '{path}' does not exist", notes=missing_path_notes(path)) from error
    except OSError as error:
        error_type = DataError if is_local(path) else StorageError
        raise error_type(f"the {noun} '{path}' cannot be read: {error}") from error


def load_annotations(path: str) -> tuple[dict[str, Any], list[Any]]:
    """Returns the metainfo and the records in an annotation file.

    Args:
        path: A `.json`, `.yaml`, `.yml`, `.pkl` or `.pickle` file that contains `{"metainfo": {...}, "data_list":
            [...]}`; a local path or a URL that fsspec supports.

    Raises:
        DataError: The file cannot be read or parsed, or has an unknown suffix or layout.
    """
    content = load_data_file(path)
    if not isinstance(content, Mapping) or not {"metainfo", "data_list"} <= content.keys():
        raise DataError(
            f"the annotation file '{path}' must contain a dict with the keys 'metainfo' and 'data_list'",
            found=list(content) if isinstance(content, Mapping) else type(content),
            notes=["Override load_data_list() to read files with a different layout."],
        )
    return dict(content["metainfo"]), list(content["data_list"])


class _ContainsArrayError(Exception):
    """A pickle contains an array or a tensor, which only the slower `_ArrayUnpickler` reads safely."""


class _DataUnpickler(pickle.Unpickler):
    """Unpickles plain data without arrays: numbers, strings, dates, paths and containers."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in ("numpy", "torch"):
            raise _ContainsArrayError
        found = _find_plain(module, name, super().find_class)
        # A file could set attributes of a Python class, but not of a built-in class.
        return partial(found) if module in ("collections", "pathlib") else found


def _read_storage(content: bytes) -> Any:
    try:
        return torch.serialization.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose message advises to execute the code
        raise DataError("a tensor in the file refers to names that may execute code", notes=[_ADVICE]) from None


def _build_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    elements = torch.empty(0, dtype=storage.dtype).set_(storage.untyped())
    return elements.as_strided(size, stride, offset)  # an error if the storage is too small; `set_` would enlarge it


# What `pickle.dump` writes for a tensor, as in files of predictions.
_TENSOR_PARTS: dict[str, Callable[..., Any]] = {
    "_load_from_bytes": _read_storage,
    "_rebuild_tensor_v2": _build_tensor,
    "Size": lambda sizes: torch.Size(sizes),
}
_Base: Any = pickle._Unpickler  # the C implementation cannot restrict which objects receive a state


class _ArrayUnpickler(_Base):  # type: ignore[misc]
    """Unpickles plain data, NumPy arrays and tensors.

    A state can make a data type claim that it holds no objects. Its arrays could then refer to any memory, so the
    states of data types are ignored. The types that need theirs, such as those of records and dates, are refused.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return name  # an argument of `_reconstruct`, which ignores it; calling the class could read any memory
        if module.startswith("numpy") and name == "_reconstruct":
            return lambda *_: np.empty(0, np.int8)
        if module.startswith("torch") and (read := _TENSOR_PARTS.get(name)):
            return read
        return _find_plain(module, name, super().find_class)

    def _set_state(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.ndarray):
            target.__setstate__(state)
        elif isinstance(target, np.dtype):
            _, order, *description = state
            if order == ">" or any(description[:3]) or target.kind in "mM":  # a subarray, names and fields
                message = "arrays of records, dates, time differences or big-endian numbers in pickle files"
                raise DataError(f"{message} are not supported", notes=[_ADVICE])
        else:
            raise DataError("the file sets attributes, which may execute code", found=type(target))

    dispatch = {**_Base.dispatch, pickle.BUILD[0]: _set_state}  # noqa: RUF012


def _find_plain(module: str, name: str, find: Callable[[str, str], Any]) -> Any:
    new_module = module.replace("numpy.core.", "numpy._core.")  # its name since NumPy 2
    is_dtype = module == "numpy.dtypes" and name.isidentifier() and name.endswith("DType")
    if is_dtype or name in _DATA_NAMES.get(new_module, ()):
        return find(module, name)
    raise DataError(
        f"the file refers to '{module}.{name}', which may execute code",
        notes=[f"Pickle files may contain only plain data. {_ADVICE}"],
    )


def read_plain_pickle(content: bytes, **options: Any) -> Any:
    """Unpickles plain data only: numbers, strings, containers, NumPy arrays and tensors.

    Args:
        content: The content of the file.
        options: Arguments for the unpickler, such as `encoding`.

    Raises:
        DataError: The file refers to any other class or function, which is not called.
    """
    try:
        return _DataUnpickler(io.BytesIO(content), **options).load()
    except _ContainsArrayError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the storages of pickled tensors
            return _ArrayUnpickler(io.BytesIO(content), **options).load()


def load_data_file(path: str) -> Any:
    """Returns the content of a JSON, YAML or pickle file. The suffix determines the format.

    Raises:
        DataError: The file has an unknown suffix, cannot be read or parsed, or is a pickle file that contains more
            than plain data.
    """
    suffix = PurePosixPath(path.lower()).suffix
    if suffix not in _SUFFIXES:
        raise DataError(
            f"the name of the annotation file '{path}' must end with one of {', '.join(_SUFFIXES)}",
            notes=["Override load_data_list() to read files in a different format."],
        )
    content = read_file(path)
    try:
        if suffix == ".json":
            return json.loads(content)
        if suffix in (".yaml", ".yml"):
            return yaml.safe_load(content)
        return read_plain_pickle(content)
    except DataError:
        raise
    except Exception as error:  # a damaged pickle file may raise any exception
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"the annotation file '{path}' cannot be parsed: {reason}") from error


def read_file(path: str) -> bytes:
    """Returns the content of a file as bytes. Retries failed connections after 1 and 5 seconds.

    Raises:
        DataError: The file does not exist, or a local file cannot be read.
        StorageError: The remote storage cannot be reached, or refuses access.
    """
    with explain_read_errors("file", path):
        for seconds in _RETRY_SECONDS:
            try:
                return read_bytes(path)
            except ConnectionError as error:
                if not threading.main_thread().is_alive():  # the connection was closed because the process is exiting
                    raise
                _logger.warning("Reading '%s' failed and will be retried in %g s: %s.", path, seconds, error)
                time.sleep(seconds)
        return read_bytes(path)


def read_record_file(record: Record, key: str) -> bytes:
    """Returns the content of the file at the path `record[key]`.

    If the dataset has already read the file, removes the content from `record["file_contents"]` and returns it.

    Raises:
        DataError: The file cannot be read.
    """
    content = record.get("file_contents", {}).pop(key, None)
    return read_file(record[key]) if content is None else content


def read_lines(path: str) -> list[str]:
    """Returns the lines of a text file without line endings and without blank lines at the end.

    Raises:
        DataError: The file cannot be read.
    """
    content = read_file(path)
    try:
        return content.decode("utf-8-sig").rstrip().splitlines()  # Windows editors write a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(f"the file '{path}' cannot be read: {error}") from error


def join_root(root: str, path: str) -> str:
    """Joins a relative `path` to `root`. Absolute paths and URLs are returned unchanged.

    Example:
        >>> join_root("data/ade", "images"), join_root("data/ade", "/images"), join_root("", "a.json")
        ('data/ade/images', '/images', 'a.json')
    """
    if not root or "://" in path or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        return path
    return join(root, path) if path else root
