"""Reads the files of an untrusted run folder: only regular files inside the folder, and only up to a size limit."""

import json
import logging
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from footplate.config import Config, read_recorded
from footplate.errors import ConfigError, DataError

_logger = logging.getLogger("footplate.tools")
MOST_BYTES = 256 << 20
_LONGEST_LINE = 1 << 20
_MOST_OF_LOGS = 64 << 20  # bytes of memory for all logs of a run
_BYTES_PER_LINE = 60


def is_safe(file: Path, folder: Path) -> bool:
    """Checks whether a file is a regular file that lies inside a folder, after links are resolved.

    Reports are shared, so a link in a run folder must not add other files of this machine to a report.
    """
    try:
        inside = file.resolve().is_relative_to(folder.resolve())
        regular = stat.S_ISREG(os.stat(file).st_mode)
    except (OSError, RuntimeError, ValueError):
        return False
    if regular and not inside:
        _logger.warning("Skipping '%s', because it links to a file outside the run's folder.", file)
    return regular and inside


def safe_files(files: Iterable[Path], folder: Path) -> list[Path]:
    """Returns the files that are safe to read."""
    return [file for file in files if is_safe(file, folder)]


def read_lines(file: Path) -> Iterator[str]:
    """Yields the lines of a text file with their line endings. Replaces bytes that are not valid UTF-8.

    Raises:
        DataError: The file cannot be read, is too large, or contains a line that is too long.
    """
    try:
        size = os.stat(file).st_size
        if size > MOST_BYTES:
            raise DataError(f"'{file}' is {size >> 20} MB, which exceeds the limit of {MOST_BYTES >> 20} MB")
        with file.open(encoding="utf-8", errors="replace", newline="\n") as stream:
            while line := stream.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    raise DataError(f"'{file}' contains a line with more than {_LONGEST_LINE} characters")
                yield line
    except OSError as error:
        raise DataError(f"cannot read '{file}': {error.strerror}") from error


def read_logs(files: Sequence[Path], limit: int = _MOST_OF_LOGS) -> list[list[str]]:
    """Returns the lines of each log without line endings.

    If the logs need more than `limit` bytes of memory, logs a warning and returns only the last lines. If a log cannot
    be read, logs a warning and returns no lines for it.
    """
    logs: list[list[str]] = []
    left = limit
    for file in reversed(files):
        lines: deque[str] = deque()
        used, is_cut = 0, False
        try:
            for line in read_lines(file):
                lines.append(line.rstrip("\r\n"))
                used += len(line) + _BYTES_PER_LINE
                while lines and used > left:
                    used -= len(lines.popleft()) + _BYTES_PER_LINE + 1
                    is_cut = True
        except DataError as error:
            _logger.warning("%s", error.message)
            lines.clear()
        if is_cut:
            _logger.warning("'%s' is very long. Reading only its last %d lines.", file, len(lines))
        logs.insert(0, list(lines))
        left -= max(used, 0)
    return logs


def read_small(file: Path) -> str:
    """Returns the first 4 Mi characters of a text file, or "" if it cannot be read."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(4 << 20)
    except OSError:
        return ""


def environment_of(folder: Path) -> dict[str, Any]:
    """Returns the environment of the newest start in a run folder, or {} if it is not recorded or damaged."""
    records = (*sorted(folder.glob("*/environment.json"), reverse=True), folder / "environment.json")
    files = safe_files((each for each in records if each.exists()), folder)
    with suppress(ValueError, RecursionError):  # damaged; the rest of the run is still useful
        found = json.loads(read_small(files[0])) if files else {}
        return found if isinstance(found, dict) else {}
    return {}


def config_of(folder: Path) -> Config | None:
    """Reads the newest config in a run folder as data, without executing anything from the folder.

    Skips configs that cannot be read. Logs a warning if none of the configs can be read.

    Args:
        folder: A work_dir, the folder of one start, or its `vis_data` folder.
    """
    reason = ""
    # The newest start comes first. The JSON form of a config comes before its Python form.
    records = (*sorted(folder.glob("*/vis_data"), reverse=True), folder / "vis_data", folder)
    files = safe_files((each / name for each in records for name in ("config.json", "config.py")), folder)
    others = safe_files((file for file in folder.glob("*.py") if file.name != "config.py"), folder)
    for file in (*files, *sorted(others, key=lambda file: file.stat().st_mtime, reverse=True)):
        try:
            return read_recorded(file)
        except ConfigError as error:
            reason = reason or f"{error.message} ({file})"
    if reason:
        _logger.warning("Cannot read the config of the run: %s", reason)
    return None
