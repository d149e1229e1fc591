"""The fault harness: interrupts, damages, starves and attacks runs, and checks how they end.

    python -m tests.faults [--rows kill,disk] [--short] [--minutes 60] [--workers 2]
    python -m tests.faults --report

Each trial is determined by its seed. Results are written to `.faults/results.jsonl`; a restarted harness continues
where it stopped. Each row starts with its controls: deliberately planted faults must be found.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from tests.faults.processes import end, fork
from tests.faults.report import report
from tests.faults.row import Row, Trial
from tests.faults.runs import warm_up
from tests.faults.table import ROWS


class Item(NamedTuple):
    """A unit of work: a trial of a row, or a control that searches for a planted fault."""

    row: Row
    seed: int
    planted: str = ""

    @property
    def name(self) -> str:
        """The name in the results."""
        return f"{self.row.name} control: {self.planted}" if self.planted else f"{self.row.name} {self.seed}"


def items(rows: list[Row], *, short: bool) -> Iterator[Item]:
    """Yields all items, controls first."""
    for row in rows:
        yield from (Item(row, 0, planted) for planted in row.planted)
    for row in rows:
        yield from (Item(row, seed) for seed in (row.short if short else row.long))


def work_on(part: list[Item], folder: Path, place: Path, until: float) -> None:
    """Processes a share of the items and writes each result, until the time is over.

    Args:
        part: The items.
        folder: The folder of results.
        place: The working folder of runs.
        until: The end time on the monotonic clock.
    """
    trials: dict[str, Trial] = {}
    with (folder / "results.jsonl").open("a") as file:
        for item in part:
            if time.monotonic() > until:
                return
            if item.row.name not in trials:
                own = folder / item.row.name if item.row.lasts else place / item.row.name
                own.mkdir(parents=True, exist_ok=True)
                trials[item.row.name] = item.row.begin(own)
            file.write(json.dumps(_done(item, trials[item.row.name])) + "\n")
            file.flush()


def _done(item: Item, trial: Trial) -> dict[str, Any]:
    entry: dict[str, Any] = {"row": item.row.name, "name": item.name}
    if not item.planted:
        found = trial(item.seed, None)
        return {**entry, "seed": item.seed, "wrong": found.wrong, "figures": dict(found.figures)}
    for seed in item.row.controls:
        found = trial(seed, item.row.planted[item.planted])
        if found.wrong:
            return {**entry, "planted": item.planted, "found": found.wrong}
    return {**entry, "planted": item.planted, "found": ""}


def main() -> int:
    """Runs the requested rows; returns 1 if anything is wrong or a worker of the harness failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="some of: %(default)s")
    parser.add_argument("--short", action="store_true", help="fewer trials of each row")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing after that")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--folder", type=Path, default=Path(".faults"))
    parser.add_argument("--report", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    results = arguments.folder / "results.jsonl"
    rows = [ROWS[name] for name in arguments.rows.split(",")]
    failed = not arguments.report and _run(arguments, rows, {each["name"] for each in _read(results)})
    return report(rows, _read(results)) or int(failed)


def _run(arguments: argparse.Namespace, rows: list[Row], done: set[str]) -> bool:
    """Distributes the remaining items among processes forked from this one; returns whether any worker failed.

    This process has trained once before.
    """
    torch.set_num_threads(1)
    left = [item for item in items(rows, short=arguments.short) if item.name not in done]
    if not left:
        return False
    until = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as work:
        warm_up(Path(work) / "warm")
        parts = [(left[number :: arguments.workers], Path(work) / str(number)) for number in range(arguments.workers)]
        workers = []
        for part, place in parts:
            workers.append(fork(lambda part=part, place=place: _worked(part, arguments.folder, place, until)))  # type: ignore[misc]
        failed = [worker for worker in workers if end(worker, patience=36_000.0)]
    if failed:
        sys.stderr.write("a worker of the harness failed; the same command continues where it stopped\n")
    return bool(failed)


def _worked(part: list[Item], folder: Path, place: Path, until: float) -> int:
    work_on(part, folder.resolve(), place, until)
    return 0


def _read(results: Path) -> list[dict[str, Any]]:
    """Returns the last result of each name."""
    entries = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # the last line of a killed process
            entry = json.loads(line)
            entries[entry["name"]] = entry
    return list(entries.values())


if __name__ == "__main__":
    sys.exit(main())
