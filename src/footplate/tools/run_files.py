"""Reads the files of an untrusted run folder. Ignores links to files outside the folder."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from footplate.config import Config, read_recorded
from footplate.errors import ConfigError
from footplate.messages import one_line

_logger = logging.getLogger("footplate.tools")
_MAX_TEXT = 48  # characters
Converted = TypeVar("Converted")
# Keys that set where a run is stored and how it starts.
START_KEYS = ("work_dir", "resume", "load_from", "resume_settings", "preflight")


def safe_files(files: Iterable[Path], folder: Path) -> list[Path]:
    """Returns the existing files whose resolved paths are inside a folder.

    Logs a warning for each file outside the folder. Users share reports, so a link in a run folder must not add other
    files on this machine to a report.
    """
    safe = []
    for file in filter(Path.is_file, files):
        if file.resolve().is_relative_to(folder.resolve()):
            safe.append(file)
        else:
            _logger.warning("Skipping '%s', because it links to a file outside the run's folder.", file)
    return safe


def modification_time(file: Path) -> float:
    """Returns a file's modification time, or 0 if the file no longer exists."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0


def read_text(file: Path) -> str:
    """Returns the content of a text file. Replaces bytes that are not valid UTF-8."""
    return file.read_text(encoding="utf-8", errors="replace")


def read_json_lines(files: Iterable[Path], convert: Callable[[Any], Converted]) -> list[Converted]:
    """Returns the converted lines of several JSON Lines files. Skips damaged lines and files with a warning."""
    converted: list[Converted] = []
    for file in files:
        try:
            for line in read_text(file).splitlines():
                try:
                    converted.append(convert(json.loads(line)))
                except (ValueError, KeyError, TypeError, RecursionError):
                    _logger.warning("Skipped an unreadable line of '%s'.", file)
        except OSError as error:
            _logger.warning("Cannot read '%s': %s.", file, error)
    return converted


def read_record(file: Path, folder: Path) -> dict[str, Any]:
    """Returns the JSON object in a run's file, or {} if the file is missing, damaged or outside `folder`."""
    for safe in safe_files([file], folder):
        with suppress(OSError, ValueError, RecursionError):
            record = json.loads(read_text(safe))
            return record if isinstance(record, dict) else {}
    return {}


class Start(NamedTuple):
    """One launch of a run. Only footplate records the fields after `folder`; for other engines, they have defaults."""

    folder: Path
    kind: str = ""  # "train", "resume", "val" or "test"; "" if the start is not recorded
    time: str = ""  # in UTC, in the ISO format
    iteration: int = 0  # the completed iterations, or the iteration of the evaluated checkpoint
    epoch_length: int | None = None  # in iterations; None if the run does not count epochs
    stopped_at: int = 0  # the completed iterations when training ended early
    stopped_by: str = ""  # what ended training early; see `run_state`
    checkpoint: str = ""  # the path of the evaluated checkpoint
    config: str = ""  # the path of the config file

    @property
    def trains(self) -> bool:
        """Whether this launch trained the model. True if this is not recorded."""
        return self.kind not in ("val", "test")

    @property
    def order(self) -> tuple[Any, ...]:
        """The key for sorting launches.

        Launches without training come first, then launches without a record, then all others.
        """
        return self.trains, bool(self.kind), self.time or self.folder.name


def read_start(folder: Path) -> Start:
    """Reads the record of a launch. If there is no valid record, returns a `Start` with only the folder."""
    record = read_record(folder / "start.json", folder)
    with suppress(ValueError, KeyError, TypeError, OverflowError):  # missing or damaged
        length = record["epoch_length"]
        return Start(
            folder,
            record["kind"],
            str(record["time"]),
            int(record["iteration"]),
            None if length is None else int(length),
            int(record.get("stopped_at", 0)),
            *(one_line(str(record.get(key) or "")) for key in ("stopped_by", "checkpoint", "config")),
        )
    return Start(folder)


def starts_of(folder: Path) -> list[Start]:
    """Returns the launches of a run, sorted by `Start.order`. `folder` may also be the folder of a single launch."""
    if (folder / "start.json").exists():
        return [read_start(folder)]
    starts = [read_start(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(starts, key=lambda start: start.order)


def divide_launches(folder: Path) -> tuple[list[Start], list[Start]]:
    """Divides the launches in a work_dir into those that form its run, and evaluations that are runs of their own.

    Evaluations of other folders' checkpoints do not belong to a training run. If no launch trains, evaluations of
    different checkpoints are separate runs, if the checkpoints are recorded. In both cases, so are evaluations whose
    config differs from the first one. A repeated evaluation replaces the earlier one, and failed evaluations are
    ignored, as are links to other folders.

    Returns:
        The launches that form the run of the work_dir, and the evaluations that are runs of their own. Both are sorted
        by `Start.order`. The first list is empty if there are only evaluations that do not belong together.
    """
    home = folder.resolve()

    def is_in_home(parent: Path) -> bool:  # the work_dir may have been moved since
        return parent == home or (parent.name == home.name and not parent.exists())

    starts = [
        start
        for start in starts_of(folder)
        if ((start.kind and start.trains) or (start.folder / "vis_data/scalars.json").exists())
        and start.folder.resolve().is_relative_to(home)
    ]
    trained = [start for start in starts if start.trains]
    evaluated: dict[tuple[str, str, str, int], Start] = {}
    for start in starts:
        if not start.trains:
            settings = comparable(config_of(start.folder))
            key = settings, start.checkpoint, start.kind, 0 if start.checkpoint else start.iteration
            evaluated.pop(key, None)  # the newest one comes last
            evaluated[key] = start
    of_home = [key for key in evaluated if not trained or not key[1] or is_in_home(Path(key[1]).parent)]
    shared = 1 if trained else 2  # those that belong together share the settings and, without training, the checkpoint
    own = [evaluated[key] for key in of_home if key[:shared] == of_home[0][:shared]]
    apart = [start for start in evaluated.values() if start not in own]
    if apart and not trained:
        return [], [*evaluated.values()]
    return [*own, *trained], apart


def environment_of(folder: Path) -> dict[str, Any]:
    """Returns the recorded environment of a run's newest launch, or {} if the record is missing or damaged.

    If the code is recorded, the entry `code` describes it: the commit, the uncommitted changes and untracked modules
    or, outside a git repository, the modules. It differs if the code differs.
    """
    files = [folder / "environment.json", *(start.folder / "environment.json" for start in starts_of(folder))]
    existing = [file for file in files if file.exists()]
    facts = read_record(existing[-1], folder) if existing else {}
    tree = facts.get("git tree") or {"modules": facts.get("modules")}
    if isinstance(tree, dict) and any(tree.values()):
        keys = "commit", "patch" if tree.get("patch") else "changed", "untracked", "modules"
        facts["code"] = shortened(one_line(", ".join(f"{key} {tree[key]}" for key in keys if tree.get(key))))
    return facts


def shortened(text: str) -> str:
    """Replaces the end of a long text with its digest, so that different texts stay different."""
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 13]} ... {digest}"


def comparable(cfg: Config | None) -> str:
    """Returns the settings of a config as text, without seeds, the work_dir and how the run was started."""
    settings = cfg.to_dict() if cfg else {}
    compared = {key: settings[key] for key in sorted(settings) if key not in START_KEYS}
    return re.sub("'seed': [^,}]*", "", repr(compared))


def config_of(folder: Path) -> Config | None:
    """Reads the newest config in a run folder without executing anything from the folder.

    Skips configs that cannot be read. Returns None if there is no readable config; logs a warning if there is a config.

    Args:
        folder: A work_dir, the folder of one launch, or its `vis_data` folder.
    """
    # The newest launch comes first.
    folders = [*(start.folder / "vis_data" for start in reversed(starts_of(folder))), folder / "vis_data", folder]
    recorded = [parent / name for parent in folders for name in ("config.py", "config.json")]
    others = sorted(folder.glob("*.py"), key=modification_time, reverse=True)
    reasons = []
    for file in safe_files(dict.fromkeys((*recorded, *others)), folder):
        try:
            return read_recorded(file)
        except ConfigError as error:
            reasons.append(f"{error.message} ({file})")
    if reasons:
        _logger.warning("Cannot read the config of the run: %s", reasons[0])
    return None
