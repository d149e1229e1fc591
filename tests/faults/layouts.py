"""The row of sharded layouts: damaged or false ones are rejected, and files of others are not removed."""

import contextlib
import functools
import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate.checkpoint import (
    consolidate,
    find_latest,
    load_checkpoint,
    read_contents,
    remove_checkpoint,
    sharded_writing,
    split_state,
    verify,
)
from footplate.checkpoint import shard_layout as layouts
from footplate.checkpoint.serializable import cut_evenly
from footplate.checkpoint.sharded_writing import save_shards
from footplate.errors import CheckpointError
from tests.checkpoint import hostile_layouts as hostile
from tests.checkpoint.hostile_layouts import COUNT, Case
from tests.faults.processes import in_child
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import same

_LIMIT_BYTES = 1 << 30
_MOST_BYTES = 200e6
_WRITTEN = ("rank_", "state-")
__all__ = ["COUNT", "begin_layouts"]


@functools.cache
def _cases() -> list[Case]:
    return hostile.cases()


def begin_layouts(folder: Path) -> Trial:
    """Prepares trials that each read, save next to and remove one sharded checkpoint."""
    hostile.save(folder / "warm.sharded")  # runs lazy imports before processes are forked
    load_checkpoint(folder / "warm.sharded")

    def trial(seed: int, fault: Fault | None) -> Finding:
        case = _cases()[seed]
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        try:
            wrong, grown = in_child(functools.partial(_attack, place, case, fault), patience=60.0)
        except RuntimeError as error:
            return Finding(f"{case.name}: {error}")
        if not wrong and grown > _MOST_BYTES:
            wrong = f"took {grown / 1e6:.0f} MB"
        return Finding(wrong and f"{case.name}: {wrong}", {"count": 1, "MB": grown / 1e6})

    return trial


def _attack(place: Path, case: Case, fault: Fault | None) -> tuple[str, float]:
    """Returns what was wrong, and the memory growth in bytes."""
    work, bad = place / "work", place / "work/iter_8.sharded"
    _prepare(place, bad, case)
    before = _foreign(place)
    if fault is not None:
        fault()
    torch.use_deterministic_algorithms(True)  # uninitialized memory is filled with NaN
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + _LIMIT_BYTES, resource.RLIM_INFINITY))
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        wrong = _read(work, bad, case) or _written(work, bad)
    except BaseException as error:  # noqa: BLE001 - anything else than a refusal is a fault
        wrong = f"{type(error).__name__}: {error}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) * 1024
    after = _foreign(place)
    lost = [name for name, held in before.items() if after.get(name) != held]
    return wrong or (f"it lost {lost[0]}" if lost else ""), float(grown)


def _prepare(place: Path, bad: Path, case: Case) -> None:
    """Creates a work_dir with the checkpoint, an intact one, and unrelated folders and files."""
    (place / "outside").mkdir(parents=True)
    (place / "outside/secret.bin").write_bytes(bytes(1000))
    for name in ("thesis.sharded/notes.txt", "data.sharded/layout.json", "notes.pth", "mixed.sharded/rank_0-1.bin"):
        (place / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "work" / name).write_text("mine")
    (place / "work/mixed.sharded/notes.txt").write_text("mine")
    hostile.save(place / "work/iter_4.sharded")
    hostile.save(bad)
    made = case.spoil(bad, json.loads((bad / "layout.json").read_bytes())["layout"])
    if made is not None:
        (bad / "layout.json").write_bytes(made)


def _foreign(place: Path) -> dict[str, bytes]:
    """Returns all files except those that footplate wrote into the two checkpoints."""
    held = {}
    for path in sorted(place.rglob("*")):
        is_ours = path.parent.name.startswith("iter_") and (
            path.name == "layout.json" or (path.name.startswith(_WRITTEN) and path.suffix in (".bin", ".pth"))
        )
        if path.is_file() and not (is_ours and path.is_relative_to(place / "work")):
            held[str(path.relative_to(place))] = path.read_bytes()
    return held


def _read(work: Path, bad: Path, case: Case) -> str:
    """Reads the checkpoint in each way, and returns the first unexpected result."""
    result = work.parent / "joined.pth"
    loads: list[Callable[[], Any]] = [lambda: load_checkpoint(bad), lambda: consolidate(bad, result)]
    shows: list[Callable[[], Any]] = [lambda: read_contents(bad)]
    checks: list[Callable[[], Any]] = [lambda: verify(bad)]
    named = "state:" in case.name
    for read in [*loads, *(() if named else checks), *(shows if case.expected == "refused" else ())]:
        try:
            read()
        except CheckpointError as error:
            if case.expected == "loaded":
                return f"refused: {error}"
            if bad.name not in str(error):
                return f"refused without its name: {error}"
        else:
            if case.expected != "loaded":
                return "taken for whole"
    if case.expected == "loaded":
        equal = all(same(hostile.example(), load_checkpoint(each)) for each in (bad, result))
        return "" if equal else "loaded something else"
    latest = find_latest(work)
    if not named and latest != str(work / "iter_4.sharded"):
        return f"a resume takes {latest}"
    return ""


def _written(work: Path, bad: Path) -> str:
    """Saves next to the checkpoint, overwrites it, and removes it, as a run does."""
    rest, parts = split_state(hostile.example(), cut_evenly(0, 1))
    new = work / "iter_12.sharded"
    save_shards(rest, parts, str(new))
    for folder in (new, *(() if bad.is_symlink() else (bad,))):  # saving follows a link, as intended
        try:
            save_shards(rest, parts, str(folder))
        except CheckpointError as error:
            if folder == new or str(folder) not in str(error):
                return f"cannot save: {error}"
        else:
            verify(folder)
    with contextlib.suppress(CheckpointError):
        remove_checkpoint(bad)
    verify(work / "iter_4.sharded")
    remove_checkpoint(new)
    return "a removed checkpoint stays" if new.exists() else ""


def _everything_is_tiled() -> None:
    vars(layouts)["is_tiled"] = lambda *_: True


def _bytes_may_be_shared() -> None:
    vars(layouts)["are_apart"] = lambda _: True


def _any_name_will_do() -> None:
    vars(layouts)["_checked_file_name"] = str


def _any_number_will_do() -> None:
    vars(layouts)["_checked_size"] = lambda value: value


def _files_are_not_checked() -> None:
    from footplate.checkpoint import contents, sharded_reading

    for module in (contents, sharded_reading):
        vars(module)["verify_files"] = lambda *_, **__: None


def _unfinished_is_what_has_no_layout() -> None:
    def remove(folder: str, *, but: str) -> None:
        for path in Path(folder).glob("*.sharded"):
            if path.name != but and not (path / "layout.json").exists():
                shutil.rmtree(path)

    vars(sharded_writing)["remove_unfinished"] = remove


def _everything_in_a_folder_is_ours() -> None:
    import re

    vars(layouts)["_OWN_FILE"] = re.compile(".*", re.DOTALL)


def _links_are_followed() -> None:
    from footplate import storage

    vars(storage)["is_link"] = lambda _: False


PLANTED: dict[str, Fault] = {
    "parts may overlap": _everything_is_tiled,
    "parts may share bytes": _bytes_may_be_shared,
    "files may have any name": _any_name_will_do,
    "numbers may be anything": _any_number_will_do,
    "digests are not compared": _files_are_not_checked,
    "what has no layout is unfinished": _unfinished_is_what_has_no_layout,
    "every file is ours": _everything_in_a_folder_is_ours,
    "links are followed": _links_are_followed,
}
