"""Reading what a run left behind: scalars of this engine and of both reference engines, pictures, checkpoints."""

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.errors import DataError
from footplate.inspection.run_files import config_of, read_lines, read_logs, read_small, safe_files
from footplate.messages import nearest, one_line

_logger = logging.getLogger("footplate.inspection")
_POSITION = frozenset({"step", "iter", "epoch", "mode"})

_MOST_NAMED = 5
_PICTURE = re.compile(r"(?P<name>.+)_(?P<step>\d{1,15})\.png")
_HEAD = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d - ")  # of a log line
_OF_COCO = re.compile(r"(?:.*[/_])?(?:m?AP|AR)(?:[_@].*)?")
_TABLES = ("per class, in percent:", "per class:")  # how the lines above a table of classes end
_MOST_TABLES, _MOST_COLUMNS = 100, 100
_MOST_SERIES = 2_000  # names of scalars
_MOST_VALUES = 3_000_000  # that are held of all lines of a run
_SET = re.compile(r"([^:]+): ")  # before the title of a table
_PHASE = re.compile(r" (?:Iter|Epoch)\((train|val|test)\) ")
Point = tuple[float, float]


class Series(NamedTuple):
    """One scalar over a run.

    Attributes:
        name: Its name.
        mode: "train" or "val".
        points: Training iteration and value, in the order of iterations.
    """

    name: str
    mode: str
    points: list[Point]


class Picture(NamedTuple):
    """One picture that a run made.

    Attributes:
        name: What it shows, the same at every step.
        step: The iteration, or epoch, at which it was made.
        path: The file.
    """

    name: str
    step: int
    path: Path


class Run(NamedTuple):
    """What a run left in its folder.

    Attributes:
        folder: The work_dir, or the one file that was given.
        series: Its scalars, in the order in which they appear.
        epoch_length: The iterations of an epoch, None for runs that do not count epochs.
        pictures: Its pictures, by name and step.
        config: Its config, read as data; None where it left none that can be read.
        explained: The config with the place of each key, or "".
        classes: The last table of classes that was logged for each validation set: the name of the `set` ("" for the
            only one), `columns` and `rows`, the training `iteration` if it is known, and whether it is of a `test`.
        environment: What it ran on, or {}.
        warnings: Lines of its logs that warn or tell an error.
        checkpoints: Its checkpoints, the newest last.
    """

    folder: Path
    series: list[Series]
    epoch_length: int | None
    pictures: list[Picture]
    config: Config | None
    explained: str
    classes: list[dict[str, Any]]
    environment: dict[str, Any]
    warnings: list[str]
    checkpoints: list[Path]

    def find(self, name: str, mode: str | None = None) -> Series | None:
        """Returns a series by its name, or None."""
        return next((each for each in self.series if each.name == name and mode in (None, each.mode)), None)


def read_run(path: str | Path) -> Run:
    """Reads a run.

    Args:
        path: A work_dir with the folders of one or more starts, later ones going on from earlier ones; or one file of
            scalars: `scalars.json`, `<time>.json` or the first generation's `<time>.log.json`.

    Raises:
        DataError: There is nothing to read.
    """
    path = Path(path)
    files = [path] if path.is_file() else safe_files(_scalar_files(path), path)
    if not files:
        raise _no_run(path)
    lines: list[dict[str, Any]] = []
    length, left = None, _MOST_VALUES
    for file in files:
        own = list(_read_lines(file, left))
        left -= sum(map(_weight, own))
        length = _epoch_length(own) or length
        lines = _going_on(lines, list(_placed(own, length)))
    series = _series(lines)
    if not series:
        raise DataError(f"no scalars in '{files[0]}'" + (" that are finite" if lines else ""))
    folder = path if path.is_dir() else path.parent
    starts = [each for each in sorted(folder.iterdir()) if each.is_dir()] if path.is_dir() else [folder]
    logs = read_logs(safe_files(sorted(folder.glob("**/*.log")), folder))
    explained = safe_files((start / "explained.txt" for start in starts), folder)
    environments = safe_files((start / "environment.json" for start in starts), folder)
    return Run(
        folder=path,
        series=series,
        epoch_length=length,
        pictures=sorted(_pictures(starts, folder), key=lambda picture: (picture.name, picture.step)),
        config=config_of(folder),
        explained=read_small(explained[-1]) if explained else "",
        classes=_last_tables(logs, series),
        environment=_environment(read_small(environments[-1]) if environments else ""),
        warnings=[line for log in logs for line in log if " - WARNING - " in line or " - ERROR - " in line],
        checkpoints=sorted(filter(Path.is_file, folder.glob("*.pth")), key=lambda file: file.stat().st_mtime),
    )


def _no_run(path: Path) -> DataError:
    if not path.exists():
        siblings = [str(each) for each in path.parent.iterdir()] if path.parent.is_dir() else []
        return DataError(f"there is no file or folder '{path}'", suggestion=nearest(str(path), siblings))
    if not path.is_dir():
        return DataError(f"'{path}' is neither a regular file nor a folder")
    below = [str(each) for each in sorted(path.iterdir()) if _scalar_files(each)]
    if below:
        more = f" and {len(below) - _MOST_NAMED} more" if len(below) > _MOST_NAMED else ""
        return DataError(
            f"'{path}' is not a run but holds {len(below)}"
            if len(below) > 1
            else f"'{path}' is not a run but holds one",
            notes=[f"give one of them, or several: {', '.join(below[:_MOST_NAMED])}{more}"],
        )
    return DataError(f"no scalars of a run in '{path}'", notes=["looked for */vis_data/scalars.json and *.log.json"])


def _scalar_files(folder: Path) -> list[Path]:
    """The newest way of writing that is found; each start of a run has its own file, later starts sort later."""
    if not folder.is_dir():
        return []
    for pattern in ("*/vis_data/scalars.json", "vis_data/scalars.json", "scalars.json", "*.log.json"):
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []


_name_in_line = lru_cache(maxsize=2048)(one_line)  # the names of scalars, which a table shows on one line


def _weight(line: Mapping[str, Any]) -> int:
    return len(line) + 4  # a line takes as much memory as some values


def _read_lines(file: Path, left: int) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(read_lines(file), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:  # a ValueError is also an integer of too many digits
            if number > 1 and not text.endswith("\n"):
                return  # the last line: the run was killed, or is writing
            raise DataError(f"line {number} of '{file}' is not JSON", found=text) from error
        if isinstance(line, dict) and ("step" in line or "mode" in line):
            _check_place(line, f"line {number} of '{file}'")
            line = {_name_in_line(key): value for key, value in line.items() if key == "mode" or _is_number(value)}
            left -= _weight(line)
            if left < 0:
                _logger.warning("'%s' is very long: it is read up to line %d", file, number - 1)
                return
            yield line


def _check_place(line: Mapping[str, Any], where: str) -> None:
    for key in ("step", "iter", "epoch"):
        if not _is_number(line.get(key, 0)) or abs(line.get(key, 0)) > MAX_RUN_LENGTH:
            raise DataError(f"{key} of {where} is not the number of an iteration or epoch", found=line[key])
    if not isinstance(line.get("mode") or "", str):
        raise DataError(f"mode of {where} is not a word", found=line["mode"])


def _environment(text: str) -> dict[str, Any]:
    """What the file says; nothing where it is damaged, which is no reason to show nothing at all."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _epoch_length(lines: Iterable[Mapping[str, Any]]) -> int | None:
    """The iterations of an epoch that all lines of training agree with; None where they count no epochs."""
    counted = [line for line in lines if line.get("mode", "train") == "train" and "epoch" in line and "iter" in line]
    if not counted:
        return None
    if "step" not in counted[0]:  # the first generation counts within the epoch
        if _by_iteration(counted):
            return None
        return max(int(line["iter"]) for line in counted)
    return max(math.ceil(int(line["iter"]) / max(int(line["epoch"]), 1)) for line in counted)


def _by_iteration(counted: list[Mapping[str, Any]]) -> bool:
    steps = [line["iter"] for line in counted]
    return steps == sorted(steps) and (counted[0]["epoch"] == counted[-1]["epoch"] or len(set(steps)) == len(steps))


def _placed(lines: Iterable[Mapping[str, Any]], epoch_length: int | None) -> Iterator[dict[str, Any]]:
    """Gives each line the training iteration it belongs to, as `at`, and its `mode`."""
    lines = list(lines)
    if _validates_by_iteration(lines):
        epoch_length = None
    at = 0.0
    for line in lines:
        mode = _mode_of(line)
        if "step" in line:
            step = line["iter"] if mode == "train" and "iter" in line else line["step"]
            at = float(step * (epoch_length or 1) if mode != "train" else step)
        elif mode == "train" and "iter" in line:
            at = float((line.get("epoch", 1) - 1) * (epoch_length or 0) + line["iter"])
        # A line of validation of the first generation counts batches of the validation: it stands where training is.
        yield {**line, "mode": mode, "at": at}


def _validates_by_iteration(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Returns whether the steps of validations are iterations: one is then at least the last step of training."""
    trained = 0
    for line in lines:
        if "step" in line and _mode_of(line) == "train":
            trained = line.get("iter", 0)
        elif trained and "step" in line:
            return bool(line["step"] >= trained)
    return False


def _mode_of(line: Mapping[str, Any]) -> str:
    return line.get("mode") or ("train" if "lr" in line or "loss" in line else "val")


def _going_on(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins two starts of a run: what the earlier one did behind the point where the later one began does not count."""
    if not after:
        return before
    begin = min(line["at"] for line in after)
    # A start that first validates what the one before had trained does not take away that iteration's losses.
    validates = all(line["mode"] != "train" for line in after if line["at"] == begin)
    kept = [
        line for line in before if line["at"] < begin or (validates and (line["at"], line["mode"]) == (begin, "train"))
    ]
    return kept + after


def _series(lines: Iterable[Mapping[str, Any]]) -> list[Series]:
    found: dict[tuple[str, str], list[Point]] = {}
    left_out: set[tuple[str, str]] = set()
    for line in lines:
        for label, value in line.items():
            name = label.removeprefix(f"{line['mode']}/")
            if name not in _POSITION and name != "at" and _is_number(value):
                if line["mode"] != "train" and name in ("lr", "time", "data_time", "memory"):
                    continue
                if value == -1 and line["mode"] != "train" and _OF_COCO.fullmatch(name):
                    continue  # COCO's word for: there is no such object, large ones for example
                key = line["mode"], name
                if key in found or len(found) < _MOST_SERIES:
                    found.setdefault(key, []).append((line["at"], float(value)))
                else:
                    left_out.add(key)
    if left_out:
        _logger.warning("The run has more than %d scalars; %d are left out.", _MOST_SERIES, len(left_out))
    return [Series(name, mode, points) for (mode, name), points in found.items()]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _pictures(starts: Iterable[Path], folder: Path) -> Iterator[Picture]:
    for start in starts:
        for file in safe_files(start.glob("vis_data/vis_image/**/*.png"), folder):
            match = _PICTURE.fullmatch(file.name)
            if match:
                yield Picture(match["name"], int(match["step"]), file)


def _last_tables(logs: Iterable[list[str]], series: Iterable[Series]) -> list[dict[str, Any]]:
    """Returns the table after the last log line of each set that ends with a colon and is about classes."""
    tables: dict[str, tuple[dict[str, Any], str]] = {}
    for lines in logs:
        mode = ""  # of the line that ends the evaluation of a table, which comes after it
        later: dict[str, tuple[dict[str, Any], str]] = {}
        for number in range(len(lines) - 2, -1, -1):  # from the end: the last table of a set counts
            found = _PHASE.search(lines[number + 1])
            mode = found[1] if found else mode
            if not lines[number].endswith(_TABLES):
                continue
            name = match[1] if (match := _SET.match(lines[number].rpartition(" - INFO - ")[2])) else ""
            if name in later or len(later) >= _MOST_TABLES:
                continue
            if parsed := _parsed_table(lines, number + 1):
                later[name] = parsed, mode
        tables.update(reversed(later.items()))
    return [{**table, **_place_of(name, mode, series), "set": name} for name, (table, mode) in tables.items()]


def _place_of(name: str, mode: str, series: Iterable[Series]) -> dict[str, Any]:
    """Tells when a table was made, by the mode of the line that ends its evaluation."""
    before = f"{name}/" if name else ""
    known = [each for each in series if each.mode == "val" and each.name.startswith(before)] if mode == "val" else []
    validated = [each.points[-1][0] for each in known]
    return {"iteration": int(max(validated)) if validated else None, "test": mode == "test"}


def _parsed_table(lines: list[str], begin: int) -> dict[str, Any] | None:
    columns = lines[begin].split()
    rows: list[list[Any]] = []
    if len(columns) > _MOST_COLUMNS:
        return None
    for line in map(lines.__getitem__, range(begin + 1, len(lines))):
        if _HEAD.match(line):
            break
        parts = line.rsplit(maxsplit=len(columns) - 1)
        try:
            rows.append([parts[0].strip(), *map(float, parts[1:])])
        except (ValueError, IndexError):
            break
        if len(rows[-1]) != len(columns):
            return None
    return {"columns": columns, "rows": rows} if rows else None
