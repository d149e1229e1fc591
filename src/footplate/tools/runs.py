"""Reads the output of a footplate, MMEngine or MMCV run: scalars, images, logs and checkpoints."""

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from footplate.checkpoint_names import SHARDED_SUFFIX, STATE, SUFFIXES
from footplate.config import Config
from footplate.errors import DataError
from footplate.messages import list_names, nearest, one_line, pluralize
from footplate.tools.run_files import (
    Start,
    config_of,
    divide_launches,
    environment_of,
    modification_time,
    read_json_lines,
    read_record,
    read_start,
    read_text,
    safe_files,
)

_logger = logging.getLogger("footplate.tools")
_COUNTERS = frozenset({"step", "iter", "epoch", "iteration"})
_POSITION = _COUNTERS | {"mode", "at"}
_OF_COCO = re.compile(r"(?:.*[/_])?(?:m?AP|AR)(?:[_@].*)?")
_TIMES = frozenset({"lr", "time", "data_time", "memory"})  # ignored in validations

_SCALAR_FILES = ("vis_data/scalars.json", "scalars.json", "*.log.json")  # of a launch, newest format first
REPORTS = (".html", ".htm")  # the suffixes of reports
TRAINING_BATCH = "train_batch"  # the image that `check` writes to the work_dir
_MAX_NAMES = 5  # in a message
_IMAGE = re.compile(r"(?P<name>.+)_(?P<step>\d{1,15})\.png")
Point = tuple[float, float]
LogLine = dict[str, Any]  # the mode and the values of a log line, by name


class Series(NamedTuple):
    """The values of one scalar over a run."""

    name: str
    mode: str  # "train", "val" or "test"; the names of test scalars begin with "test/"
    points: list[Point]  # pairs of training iteration and finite value, sorted by iteration
    last_nonfinite: float | None = None  # the iteration of the last value that was NaN or infinite

    @property
    def values(self) -> list[float]:
        """The values, in the order of the iterations."""
        return [value for _, value in self.points]

    @property
    def ends_nonfinite(self) -> bool:
        """Whether the most recently recorded value is non-finite."""
        return self.last_nonfinite is not None and self.last_nonfinite > self.points[-1][0]


class RunImage(NamedTuple):
    """An image that a run wrote."""

    name: str  # shared by the images of all steps
    step: int  # the iteration or epoch at which it was written
    path: Path


class PerClassResults(NamedTuple):
    """The per-class results of one validation or test run, for one dataset and metric, as a table."""

    dataset: str  # the name of the dataset, "" if there is only one
    metric: str
    mode: str  # "val" or "test"
    step: int  # the training iteration
    columns: list[str]  # the names of the columns; the first column contains the class names
    rows: list[list[Any]]  # the name and the values of each class; None for a missing value


class Run(NamedTuple):
    """The output of a run."""

    folder: Path  # the work_dir, or the single file that was read
    series: list[Series]  # in the order of their first appearance
    epoch_length: int | None  # the iterations per epoch, or None for runs that do not count epochs
    images: list[RunImage]  # sorted by name and step; images of tests come last
    config: Config | None  # read as data; None if there is no readable config
    explained: str  # the config with the location of each key, or ""
    per_class: list[PerClassResults]  # the tables of each dataset, metric and mode, in ascending order of steps
    training_data: dict[str, Any]  # the labels and image sizes of training samples; see `_training_data`
    environment: dict[str, Any]  # the environment of the last launch, or {}
    warnings: list[str]  # logged warnings and errors with their times, and warnings about the records themselves
    checkpoints: dict[Path, int]  # the bytes of files and of sharded checkpoints, sorted from oldest to newest
    stopped_by: str = ""  # what ended training early; see `run_state`
    never_finite: Sequence[str] = ()  # the names of training scalars that were never finite
    launches: Sequence[Start] = ()  # sorted by `Start.order`

    @property
    def settings(self) -> Mapping[str, Any]:
        """The keys of the config, or {} if there is no readable config."""
        return self.config._cfg_dict if self.config is not None else {}

    @property
    def evaluated(self) -> Start | None:
        """The newest launch of a run that only evaluates, or None if the run trains."""
        return next((start for start in self.launches[-1:] if not start.trains), None)

    def scalars(self, mode: str) -> dict[str, Series]:
        """Returns the series of a mode, keyed by name."""
        return {series.name: series for series in self.series if series.mode == mode}


def read_run(path: str | Path) -> Run:
    """Reads the output of a run.

    Args:
        path: A work_dir with the folders of one or more launches, where later launches resume earlier ones, the folder
            of a single launch, or a single file of scalars: `scalars.json`, `<time>.json` or the first generation's
            `<time>.log.json`. Launches in a work_dir that are runs of their own are left out; see `divide_launches`.

    Raises:
        DataError: There are no finite scalars, or a file is invalid.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    recorded = divide_launches(path)[0] if path.is_dir() else [Start(folder)]
    lines, length = _joined_lines(path, recorded)
    scalars = _series(lines)
    series = [each for each in scalars if each.points]
    if not series:
        raise DataError(f"there are no finite scalars in '{path}'")
    warnings = read_json_lines(
        _own_files(folder, recorded, "**/*.warnings*.jsonl"),
        lambda line: " - ".join(str(line[key]) for key in ("time", "logger", "level", "message")),
    )
    diverged = [
        f"{each.name} ({each.mode}) after iteration {each.points[-1][0]:.0f}" for each in series if each.ends_nonfinite
    ]
    never_finite = [each.name for each in scalars if each.mode == "train" and not each.points]
    diverged += [f"{name} (train) from the start" for name in never_finite]
    if diverged:
        warnings.append(f"Scalars that stay non-finite until the end of the run: {list_names(diverged, _MAX_NAMES)}.")
    explained = _own_files(folder, recorded, "explained.txt")
    return Run(
        folder=path,
        series=series,
        epoch_length=length,
        images=_images(
            [
                *safe_files(folder.glob(f"{TRAINING_BATCH}_0.png"), folder),
                *_own_files(folder, recorded, "vis_data/vis_image/**/*.png"),
            ],
            [int(line["at"]) for line in lines if line["mode"] == "val"],
        ),
        config=config_of(folder),
        explained=read_text(explained[-1]) if explained else "",
        per_class=_per_class_results(_own_files(folder, recorded, "**/per_class.jsonl")),
        training_data=_training_data(folder, _own_files(folder, recorded, "vis_data/training_data.json")),
        environment=environment_of(folder),
        warnings=warnings,
        checkpoints=_checkpoints(folder),
        stopped_by=recorded[-1].stopped_by if recorded else "",
        never_finite=never_finite,
        launches=recorded,
    )


def read_runs(paths: Sequence[str]) -> list[Run]:
    """Reads several runs. Skips reports, and with a warning other paths that cannot be read as runs.

    Also reads the evaluations in each work_dir that are runs of their own; see `divide_launches`.

    Raises:
        DataError: A path does not exist, or none of the paths can be read as a run.
    """
    runs: list[Run] = []
    for path in paths:
        if path.endswith(REPORTS):  # `work_dirs/*` includes the report that was written there
            continue
        own, apart = divide_launches(Path(path))
        folders = [path] if own or not apart else []
        for folder in [*folders, *(str(start.folder) for start in apart)]:
            try:
                runs.append(read_run(folder))
            except DataError as error:
                if (len(paths) == 1 and not apart) or not Path(path).exists():
                    raise
                _logger.warning("Skipping a path that cannot be read as a run: %s", error.message)
    if not runs:
        raise DataError("none of the paths can be read as a run", found=list(paths))
    return runs


def _images(files: Iterable[Path], validated: Sequence[int]) -> list[RunImage]:
    """Returns the images in files named `name_step.png`. Test images come last.

    The step of `val_img`, which MMDetection and MMPose save, is the training iteration plus the batch index.
    """
    images = []
    for file in files:
        match = _IMAGE.fullmatch(file.name)
        if match is None:
            continue
        name, step = match["name"], int(match["step"])
        if name == "val_img":
            at = max((iteration for iteration in validated if iteration <= step), default=step)
            name, step = f"val_img, batch {step - at + 1}", at
        images.append(RunImage(name, step, file))
    return sorted(images, key=lambda image: (image.name.startswith("test_"), image))


def _no_run(path: Path) -> DataError:
    if not path.exists():
        return DataError(f"'{path}' does not exist", suggestion=nearest(str(path), map(str, path.parent.glob("*"))))
    patterns = ("*/vis_data/scalars.json", *_SCALAR_FILES)
    runs = [str(child) for child in sorted(path.glob("*")) if any(any(child.glob(pattern)) for pattern in patterns)]
    if runs:
        return DataError(
            f"'{path}' is not a run, but it contains {pluralize(len(runs), 'run')}",
            notes=[f"Pass instead: {list_names(runs, _MAX_NAMES)}"],
        )
    notes = [
        "Expected */vis_data/scalars.json or *.log.json. If vis_backends is set, add dict(type='LocalVisBackend')."
    ]
    return DataError(f"there are no run scalars in '{path}'", notes=notes)


def _own_files(folder: Path, launches: Sequence[Start], pattern: str) -> list[Path]:
    """Returns the files of a run's launches that match a pattern, in the order of the launches.

    If no launches are recorded, returns the files in `folder`.
    """
    folders = [start.folder for start in launches] or [folder]
    return safe_files((file for parent in folders for file in sorted(parent.glob(pattern))), folder)


def _read_lines(file: Path) -> list[LogLine]:
    lines: list[LogLine] = []
    texts = read_text(file).split("\n")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        where = f"line {number} of '{file}'"
        try:
            line = json.loads(text, parse_int=float)
        except (ValueError, RecursionError) as error:
            if 1 < number == len(texts):
                break  # an incomplete last line: the run was killed or is still writing
            raise DataError(f"{where} is not valid JSON", found=text) from error
        if isinstance(line, dict) and ("step" in line or "mode" in line):
            for key in _COUNTERS & line.keys():
                if not (isinstance(line[key], float) and math.isfinite(line[key])):
                    raise DataError(f"'{key}' in {where} must be an iteration or epoch number", found=line[key])
            mode = str(line.get("mode") or ("train" if "lr" in line or "loss" in line else "val"))
            values = {one_line(key): value for key, value in line.items() if isinstance(value, float)}
            lines.append({**values, "mode": mode})
    return lines


def _joined_lines(path: Path, launches: Sequence[Start]) -> tuple[list[LogLine], int | None]:
    """Joins the scalars of the launches of a run, or reads a single file.

    Returns the log lines, with the training iteration of each line as `at`, and the epoch length in iterations, or None
    if unknown.
    """
    trained: list[LogLine] = []
    evaluated: list[LogLine] = []  # from launches that did not train
    length = None
    files = [path] if path.is_file() else []
    for pattern in _SCALAR_FILES:
        files = files or _own_files(path, launches, pattern)
    if not files:
        raise _no_run(path)
    for file in files:
        start, lines = read_start(file.parent.parent), _read_lines(file)
        if not start.trains:
            evaluated += [{**line, "mode": "val", "at": start.iteration} for line in lines]
            continue
        if start.kind:
            if length and start.epoch_length:  # after a change of the batch size, count in batches of the new size
                for line in trained:
                    line["at"] = line["at"] * start.epoch_length / length
            length = start.epoch_length
            for line in lines:
                line["at"] = line.get("iteration", line.get("step", 0.0))
                if "iteration" not in line:  # not metrics of the evaluators, but numbers that a hook has logged
                    line["mode"] = "train"
            position: float = start.iteration
        else:
            length = _derive_epoch_length(lines) or length
            position = _place_derived(lines, length)
        if lines:  # replace later lines of earlier launches, and a repeated validation
            repeated = [line["mode"] for line in lines if line["at"] == position]
            kept = [line for line in trained if line["at"] <= position]
            trained = [line for line in kept if line["at"] < position or line["mode"] not in repeated] + lines
    return sorted([*trained, *evaluated], key=lambda line: line["at"]) if evaluated else trained, length


def _place_derived(lines: Sequence[LogLine], epoch_length: int | None) -> float:
    """Sets the training iteration (`at`) of each log line that another engine wrote during one launch.

    Returns the iteration from which the launch resumed.
    """
    # Validation steps count iterations if the first one is not lower than the preceding training step.
    for previous, following in pairwise(line for line in lines if "step" in line):
        if previous["mode"] == "train" != following["mode"] and previous.get("iter"):
            epoch_length = None if following["step"] >= previous["iter"] else epoch_length
            break
    at: Any = 0.0
    for line in lines:
        if "step" in line:
            at = line.get("iter", line["step"]) if line["mode"] == "train" else line["step"] * (epoch_length or 1)
        elif line["mode"] == "train" and "iter" in line:
            at = (line.get("epoch", 1) - 1) * (epoch_length or 0) + line["iter"]
        line["at"] = at  # first-generation validation lines count batches: keep the training iteration
    begin = min((line["at"] for line in lines), default=math.inf)
    # If a launch validates first, it resumed at that iteration; otherwise it resumed before that iteration.
    return begin if all(line["mode"] != "train" for line in lines if line["at"] == begin) else begin - 0.5


def _derive_epoch_length(lines: Iterable[LogLine]) -> int | None:
    """Derives the number of iterations per epoch from training log lines.

    Returns None if the lines lack epochs or count the iterations of the whole run.
    """
    counted = [line for line in lines if line["mode"] == "train" and "epoch" in line and "iter" in line]
    if not counted:
        return None
    if "step" in counted[0]:
        lengths: list[int] = [math.ceil(line["iter"] / max(line["epoch"], 1)) for line in counted]
        return max(lengths)
    # The first generation counts within the epoch, unless the iterations increase over several epochs.
    steps = [line["iter"] for line in counted]
    is_one_epoch = counted[0]["epoch"] == counted[-1]["epoch"]
    counts_run = steps == sorted(steps) and (is_one_epoch or len(set(steps)) == len(steps))
    return None if counts_run else int(max(steps))


def _series(lines: Sequence[LogLine]) -> list[Series]:
    """Returns the scalars of log lines, including those without a finite value, which have no points."""
    # If another validation set has the same metric, "val/acc" belongs to a set with the name "val".
    labels = ((line, *label.partition("/")) for line in lines for label in line)
    of_val_set = {f"val/{rest}" for line, name, _, rest in labels if name != "val" and f"val/{rest}" in line}
    points: dict[tuple[str, str], list[Point]] = {}
    last_nonfinite: dict[tuple[str, str], float] = {}
    for line in lines:
        for label, value in line.items():
            name = label if label in of_val_set else label.removeprefix(f"{line['mode']}/")
            # COCO reports -1 if the dataset has no objects of the relevant kind, such as large objects.
            is_undefined = value == -1 and _OF_COCO.fullmatch(name)
            if name in _POSITION or (line["mode"] != "train" and (name in _TIMES or is_undefined)):
                continue
            key = "test" if label.startswith("test/") else line["mode"], name
            finite = points.setdefault(key, [])
            if math.isfinite(value):
                finite.append((line["at"], value))
            else:
                last_nonfinite[key] = line["at"]
    return [Series(name, mode, values, last_nonfinite.get((mode, name))) for (mode, name), values in points.items()]


def _checkpoints(folder: Path) -> dict[Path, int]:
    """Returns the sizes of the checkpoints in a folder. Skips checkpoints that are deleted during the call."""
    contents = {file: [file] for file in folder.glob("*") if file.suffix in SUFFIXES and file.is_file()}
    for state in folder.glob(f"*{SHARDED_SUFFIX}/{STATE}"):
        contents[state.parent] = [file for file in state.parent.glob("*") if file.is_file()]
    sizes = {}
    for path in sorted(contents, key=modification_time):
        with suppress(FileNotFoundError):
            sizes[path] = sum(file.stat().st_size for file in contents[path])
    return sizes


def _per_class_results(files: Iterable[Path]) -> list[PerClassResults]:
    """Reads the per-class results of all validation and test runs. `files` are sorted from oldest to newest.

    If there are several tables for the same step, the last one wins.
    """
    tables: dict[tuple[str, str, str], dict[int, PerClassResults]] = {}
    for table in read_json_lines(files, lambda line: PerClassResults(**line)):
        name = table.dataset, table.metric, table.mode
        tables[name] = {**tables.pop(name, {}), table.step: table}  # the latest name comes last
    return [steps[step] for steps in tables.values() for step in sorted(steps)]


def _training_data(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Reads the labels and image sizes of the training samples that the last launch counted.

    Returns:
        A dict with the number of `samples`, the `unit` of the labels ("pixels", "boxes" or "images"), the `labels` with
        their amounts, and the `sizes` with the width, the height and the number of images. {} without a valid file.
    """
    content = read_record(files[-1], folder) if files else {}
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        return {
            "samples": int(content["samples"]),
            "unit": str(content["unit"]),
            "labels": [[str(name), int(amount)] for name, amount in content["labels"]],
            "sizes": [[int(width), int(height), int(number)] for width, height, number in content["sizes"]],
        }
    return {}
