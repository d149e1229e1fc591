"""Reads the files of an untrusted run folder: only regular files inside the folder, and only up to a size limit."""

import json
import logging
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from footplate.checks import MAX_RUN_LENGTH, check_choice, check_count
from footplate.config import Config, read_recorded
from footplate.errors import ConfigError, DataError

_logger = logging.getLogger("footplate.tools")
MAX_BYTES = 256 << 20
_MAX_CHARACTERS = 1 << 20  # of a line
_MAX_LINES = 100_000  # of a log


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


def modification_time(file: Path) -> float:
    """Returns the time at which a file was modified, or 0 if it no longer exists."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0


def read_lines(file: Path) -> Iterator[str]:
    """Yields the lines of a text file with their line endings. Replaces bytes that are not valid UTF-8.

    Raises:
        DataError: The file cannot be read, is too large, or contains a line that is too long.
    """
    try:
        size = os.stat(file).st_size
        if size > MAX_BYTES:
            raise DataError(f"'{file}' is {size >> 20} MB, which exceeds the limit of {MAX_BYTES >> 20} MB")
        with file.open(encoding="utf-8", errors="replace", newline="\n") as stream:
            while line := stream.readline(_MAX_CHARACTERS):
                if len(line) == _MAX_CHARACTERS:
                    raise DataError(f"'{file}' contains a line with more than {_MAX_CHARACTERS} characters")
                yield line
    except OSError as error:
        raise DataError(f"cannot read '{file}': {error.strerror}") from error


def read_logs(files: Iterable[Path]) -> Iterator[str]:
    """Yields the last 100,000 lines of each log, without line endings. Logs a warning for a log that cannot be read."""
    for file in files:
        try:
            yield from deque((line.rstrip("\r\n") for line in read_lines(file)), maxlen=_MAX_LINES)
        except DataError as error:
            _logger.warning("%s", error.message)


def read_small(file: Path) -> str:
    """Returns the first 4 Mi characters of a text file, or "" if it cannot be read."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(4 << 20)
    except OSError:
        return ""


class Start(NamedTuple):
    """A start of a run, which has a folder of its own. Only footplate records more than the folder."""

    folder: Path
    kind: str = ""  # "train", "resume", "val" or "test"; "" if the start is not recorded
    time: str = ""  # in UTC
    iteration: int = 0  # the number of completed iterations, or those of the evaluated checkpoint
    epoch_length: int | None = None  # in iterations; None if the run does not count epochs
    counts_epochs: bool = False  # whether the metrics of validations are recorded by epoch

    @property
    def trains(self) -> bool:
        """Whether the start trained, as far as it is recorded."""
        return self.kind not in ("val", "test")

    @property
    def order(self) -> tuple[Any, ...]:
        """The sort key of starts: first those that did not train, then those that are not recorded, by folder name."""
        return self.trains, bool(self.kind), self.time or self.folder.name


def read_start(folder: Path) -> Start:
    """Reads the record of a start. Returns one without a kind if there is no valid record."""
    file = folder / "start.json"
    with suppress(ValueError, RecursionError, KeyError, TypeError):  # missing or damaged
        found = json.loads(read_small(file)) if is_safe(file, folder) else {}
        start = Start(
            folder=folder,
            kind=check_choice("kind", found["kind"], ("train", "resume", "val", "test")),
            time=datetime.fromisoformat(found["time"]).astimezone(timezone.utc).isoformat(timespec="microseconds"),
            iteration=check_count("iteration", found["iteration"], least=0, most=MAX_RUN_LENGTH),
            epoch_length=found["epoch_length"],
            counts_epochs=found["metric_step"] == "epoch",
        )
        if start.epoch_length is not None:
            check_count("epoch_length", start.epoch_length, most=MAX_RUN_LENGTH)
        return start
    return Start(folder)


def starts_of(folder: Path) -> list[Start]:
    """Returns the starts of a run in order."""
    starts = [read_start(each) for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
    return sorted(starts, key=lambda start: start.order)


def in_order(files: Iterable[Path]) -> list[Path]:
    """Sorts files such as `<start>/vis_data/scalars.json` by their starts."""
    return sorted(files, key=lambda file: (read_start(file.parent.parent).order, file))


def environment_of(folder: Path) -> dict[str, Any]:
    """Returns the environment of the newest start in a run folder, or {} if it is not recorded or damaged."""
    records = [start.folder / "environment.json" for start in reversed(starts_of(folder))]
    files = safe_files((each for each in (*records, folder / "environment.json") if each.exists()), folder)
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
    records = (*(start.folder / "vis_data" for start in reversed(starts_of(folder))), folder / "vis_data", folder)
    files = safe_files((each / name for each in records for name in ("config.json", "config.py")), folder)
    others = safe_files((file for file in folder.glob("*.py") if file.name != "config.py"), folder)
    for file in (*files, *sorted(others, key=modification_time, reverse=True)):
        try:
            return read_recorded(file)
        except ConfigError as error:
            reason = reason or f"{error.message} ({file})"
    if reason:
        _logger.warning("Cannot read the config of the run: %s", reason)
    return None
