"""Reading annotation files and joining paths."""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from footplate.errors import DataError
from footplate.storage import join, missing_path_notes, read_bytes

_SUFFIXES = (".json", ".yaml", ".yml")


def load_annotations(path: str) -> tuple[dict[str, Any], list[Any]]:
    """Returns metainfo and records of an annotation file.

    Args:
        path: A JSON or YAML file that holds `{"metainfo": {...}, "data_list": [...]}`; local, or anywhere
            fsspec reads.

    Raises:
        DataError: It is not there, cannot be parsed, or holds something else.
    """
    content = load_data_file(path)
    if not isinstance(content, Mapping) or not {"metainfo", "data_list"} <= content.keys():
        raise DataError(
            f"the annotation file '{path}' lacks the keys 'metainfo' and 'data_list'",
            found=list(content) if isinstance(content, Mapping) else type(content),
            notes=["a data set of another layout overrides load_data_list()"],
        )
    return dict(content["metainfo"]), list(content["data_list"])


def load_data_file(path: str) -> Any:
    """Returns the content of a JSON or YAML file.

    Raises:
        DataError: It is not there, cannot be parsed, or is of another kind.
    """
    if not path.lower().endswith(_SUFFIXES):
        raise DataError(
            f"the annotation file '{path}' is none of {', '.join(_SUFFIXES)}",
            notes=["a data set of another layout overrides load_data_list()"],
        )
    text = read_file(path)
    try:
        return json.loads(text) if path.lower().endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"the annotation file '{path}' cannot be parsed: {str(error).splitlines()[0]}") from error


def read_file(path: str) -> bytes:
    """Returns the bytes of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return read_bytes(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"the file '{path}' does not exist", notes=missing_path_notes(path)) from error
        raise DataError(f"the file '{path}' cannot be read: {error}") from error


def read_lines(path: str) -> list[str]:
    """Returns the lines of a text file, without line ends.

    Raises:
        DataError: It cannot be read.
    """
    return read_file(path).decode("utf-8").splitlines()


def joined(root: str, path: str) -> str:
    """Returns `path`, under `root` if it is relative; a URL is never relative.

    Example:
        >>> joined("data/ade", "images"), joined("data/ade", "/images"), joined("", "a.json")
        ('data/ade/images', '/images', 'a.json')
    """
    if not root or "://" in path or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        return path
    return join(root, path) if path else root
