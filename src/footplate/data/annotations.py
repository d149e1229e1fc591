"""Reads annotation files and joins paths."""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from footplate.errors import DataError
from footplate.storage import join, missing_path_notes, read_bytes

_MOST_VALUES = 100_000  # for a short YAML text; a longer one may have as many values as bytes
_LONGEST_NUMBER = 1000  # characters: parsing base-60 numbers takes quadratic time
_SUFFIXES = (".json", ".yaml", ".yml")


def load_annotations(path: str) -> tuple[dict[str, Any], list[Any]]:
    """Returns the metainfo and the records of an annotation file.

    Args:
        path: A JSON or YAML file that contains `{"metainfo": {...}, "data_list": [...]}`; a local path or a URL that
            fsspec supports.

    Raises:
        DataError: It is not there, cannot be parsed, or holds something else.
    """
    content = load_data_file(path)
    if not isinstance(content, Mapping) or not {"metainfo", "data_list"} <= content.keys():
        raise DataError(
            f"the annotation file '{path}' lacks the keys 'metainfo' and 'data_list'",
            found=list(content) if isinstance(content, Mapping) else type(content),
            notes=["a dataset of another layout overrides load_data_list()"],
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
            notes=["a dataset of another layout overrides load_data_list()"],
        )
    text = read_file(path)
    try:
        return json.loads(text) if path.lower().endswith(".json") else _read_yaml(text)
    except RecursionError as error:
        raise DataError(f"the annotation file '{path}' cannot be parsed: it is nested too deeply") from error
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        raise DataError(f"the annotation file '{path}' cannot be parsed: {str(error).splitlines()[0]}") from error


def _read_yaml(text: bytes) -> Any:
    """Parses a YAML text; refuses it if its references expand to far more values than the text has bytes."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, max(_MOST_VALUES, len(text)), {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(node: yaml.Node, most: int, known: dict[int, int]) -> int:
    """Returns how many values a node expands to; referenced values (`*`, `<<`) count at each reference."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith((":int", ":float")) and len(node.value) > _LONGEST_NUMBER:
            raise ValueError(f"a number in it has more than {_LONGEST_NUMBER} characters")
        return 1
    if id(node) not in known:
        known[id(node)] = most + 1  # while being measured: a node that contains itself exceeds the limit
        pairs = isinstance(node, yaml.MappingNode)
        inner = (each for pair in node.value for each in pair) if pairs else iter(node.value)
        total = 1
        for each in inner:
            total += _measure(each, most, known)
            if total > most:
                raise ValueError(f"its references (`*`) stand for more than {most} values")
        known[id(node)] = total
    return known[id(node)]


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
    """Returns the lines of a text file without line ends.

    Raises:
        DataError: It cannot be read.
    """
    return read_file(path).decode("utf-8").splitlines()


def joined(root: str, path: str) -> str:
    """Joins a relative `path` to `root`; returns absolute paths and URLs unchanged.

    Example:
        >>> joined("data/ade", "images"), joined("data/ade", "/images"), joined("", "a.json")
        ('data/ade/images', '/images', 'a.json')
    """
    if not root or "://" in path or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        return path
    return join(root, path) if path else root
