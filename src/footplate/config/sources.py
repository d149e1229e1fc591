"""Reads the text of a config file, or explains why it cannot be read."""

import os
import stat
from pathlib import Path

from footplate.config.origins import Place, shown_path
from footplate.config.packages import SUFFIXES, near_config
from footplate.errors import ConfigError, ConfigSyntaxError, Origin
from footplate.messages import nearest

_RECIPES = "footplate"  # the package of the recipes
_MOST_BYTES = 16 * 2**20


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns the absolute path of a config file, with `~` expanded and forward slashes."""
    return os.path.abspath(os.path.expanduser(os.fspath(path))).replace(os.sep, "/")


def read_text(path: str, asked_at: Origin | None = None) -> str:
    """Returns the text of a config file.

    Args:
        path: The absolute path.
        asked_at: The place that refers to the file, for errors.

    Raises:
        ConfigError: If the file is missing, not a regular file, too large or unreadable.
        ConfigSyntaxError: If it is not UTF-8.
    """
    _check_file(path, asked_at)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read config '{shown_path(path)}': {error.strerror}", origin=asked_at) from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigSyntaxError(
            f"a config is text in UTF-8, which byte {error.start} is not",
            origin=Place(path, line),
            found=data[error.start : error.start + 1],
        ) from error


def suffix_of(path: str, asked_at: Origin | None = None) -> str:
    """Returns the suffix of a config file in lower case.

    Raises:
        ConfigError: If it is not the suffix of a config format.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return suffix
    raise ConfigError(f"'{os.path.basename(path)}' is no config: configs end in {', '.join(SUFFIXES)}", origin=asked_at)


def _check_file(path: str, asked_at: Origin | None) -> None:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _missing_file(path, asked_at) from error
    shown = shown_path(path)
    if stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"config '{shown}' is a folder, not a file", origin=asked_at)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"config '{shown}' is no regular file", origin=asked_at)
    if status.st_size > _MOST_BYTES:
        size = status.st_size / 2**20
        raise ConfigError(
            f"config '{shown}' is too large: {size:.0f} MB, and the most is {_MOST_BYTES >> 20} MB", origin=asked_at
        )


def _missing_file(path: str, asked_at: Origin | None) -> ConfigError:
    folder, name = os.path.split(path)
    try:
        neighbours = [entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIXES)]
    except (OSError, ValueError):
        neighbours = []
    near = nearest(name, neighbours)
    recipe = near_config(_RECIPES, name)
    is_meant = recipe is not None and recipe.endswith(f"::{os.path.splitext(name)[0]}.py")
    return ConfigError(
        f"no config file '{shown_path(path)}'",
        origin=asked_at,
        suggestion=shown_path(os.path.join(folder, near)) if near and not is_meant else recipe,
        notes=[f"a base begins at the folder of the config that names it; tried '{path}'"] if asked_at else (),
    )
