"""Kills training runs of several engines, restarts them and compares the results with runs left alone.

    python -m benchmarks resume [--engines NAME ...] [--seeds N ...] [--jobs N] [--here]
    python -m benchmarks resume --page

Needs Linux and gcc. Environments lie in ~/.cache/resume-table. Each trial adds a line to docs/resume-table.jsonl, from
which docs/resume-table.md and README.md in this folder are written. A trial is not repeated unless its engine's file or
the harness has changed.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import hashlib
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.resume import page
from benchmarks.resume.attacks import COUNTS, KILLS, Attack, plan
from benchmarks.resume.environments import HERE, build_library, engines, python_of
from benchmarks.resume.judge import compare, judge, load, merge
from benchmarks.resume.run import Engine, Outcome, Place

RESULTS = HERE.parents[1] / "docs" / "resume-table.jsonl"


class Table:
    """The lines of results.

    Args:
        path: The file, with one JSON object per line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.lines: list[dict[str, Any]] = page.read(path)

    def has(self, key: dict[str, Any]) -> bool:
        """Returns whether a trial was made."""
        return any(key.items() <= line.items() for line in self.lines)

    def add(self, line: dict[str, Any]) -> None:
        """Appends a line, and removes older lines of the same trial."""
        same = {name: line[name] for name in ("engine", "seed", "kind", "number")}
        with self._lock:
            self.lines = [old for old in self.lines if not same.items() <= old.items()] + [line]
            self.lines.sort(key=lambda old: (old["engine"], old["seed"], [*COUNTS].index(old["kind"]), old["number"]))
            made = self.path.with_suffix(".new")
            made.write_text("".join(json.dumps(old) + "\n" for old in self.lines))
            made.replace(self.path)


def try_engine(engine: str, seed: int, python: Path, table: Table, counts: dict[str, int]) -> None:
    """Attacks the runs of an engine with one seed, and adds the lines to the table."""
    version = digest(engine)
    wanted = [
        {"engine": engine, "seed": seed, "kind": kind, "number": number, "version": version}
        for kind, count in counts.items()
        for number in range(count)
    ]
    if all(table.has(key) for key in wanted):
        return
    running = Engine(engine, python)
    with tempfile.TemporaryDirectory() as root, contextlib.closing(running):
        alone = [Place(Path(root) / f"alone{number}", running, seed).start() for number in range(2)]
        check_alone(engine, alone)
        for key, attack in zip(wanted, plan(alone[0], seed, counts), strict=True):
            if table.has(key):
                continue
            place = Place(Path(root) / "attacked", running, seed)
            line = {**key, "date": datetime.date.today().isoformat(), **try_attack(place, attack, alone[0])}
            table.add(line)
            print(engine, seed, attack.kind, key["number"], summarize(line), flush=True)


def check_alone(engine: str, alone: list[Outcome]) -> None:
    """Raises an error unless two runs left alone agree."""
    if any(outcome.result is None for outcome in alone):
        raise RuntimeError(f"{engine}: a run left alone failed:\n{alone[-1].output[-3000:]}")
    told = compare(*(load(outcome.result) for outcome in alone if outcome.result))
    differing = [part for part, value in told.items() if value != "absent" and value[0] == "different"]
    if differing or merge([alone[0].records]) != merge([alone[1].records]):
        raise RuntimeError(f"{engine}: two runs left alone differ: {told}")


def try_attack(place: Place, attack: Attack, alone: Outcome) -> dict[str, Any]:
    """Attacks a run, restarts it and returns what was found."""
    first = place.start(signal_plan=attack.signal, call_plan=attack.call)
    if attack.kind in KILLS and first.code != -9:
        raise RuntimeError(f"the run was not killed: {attack}\n{first.output[-2000:]}")
    line: dict[str, Any] = {"attack": attack.call or attack.signal}
    if attack.call:
        # If the batch changed between the log of a call and the attack on it, the attacked call is the last one.
        at = next((call for call in first.calls if (call.batch, call.number) >= attack.at), first.calls[-1])
        line["at"] = f"{at.name} {Path(at.path).name}"
    if attack.truncate:
        line["at"] = place.truncate_newest()
    restart = place.start(resume=True, workers=attack.workers, processes=attack.processes)
    return {**line, **judge(alone, first, restart)}


def digest(engine: str) -> str:
    """Returns the digest of an engine's file, its packages and the harness."""
    names = (
        "task.py",
        "calls.c",
        "attacks.py",
        "run.py",
        "warm.py",
        f"engines/with_{engine}.py",
        f"lists/{engine}.txt",
    )
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in names)).hexdigest()[:12]


def summarize(line: dict[str, Any]) -> str:
    """Returns a line of the table in short."""
    if not line["restarts"]:
        return f"does not restart: {line['error']}"
    parts = [f"{part} {line[part][0]}" for part in ("model", "averaged", "best") if line[part][0] != "absent"]
    return f"{', '.join(parts)}, log {line['log']}, data {line['data']}, {line['repeated']} batches repeated"


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=engines(), default=engines(), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="N")
    parser.add_argument("--kinds", nargs="+", choices=COUNTS, default=list(COUNTS), metavar="KIND")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of results")
    parser.add_argument("--page", action="store_true", help="only write the page from the existing results")
    parser.add_argument("--here", action="store_true", help="use this Python instead of creating environments")
    chosen = parser.parse_args()
    table = Table(chosen.results)
    failed = False
    if not chosen.page:
        build_library()
        pythons = {engine: Path(sys.executable) if chosen.here else python_of(engine) for engine in chosen.engines}
        counts = {kind: COUNTS[kind] for kind in COUNTS if kind in chosen.kinds}
        with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
            runs = {
                pool.submit(try_engine, engine, seed, python, table, counts): engine
                for engine, python in pythons.items()
                for seed in chosen.seeds
            }
            for run in concurrent.futures.as_completed(runs):
                if run.exception():
                    failed = True
                    print(f"{runs[run]}: {run.exception()!r}", flush=True)
    if chosen.results == RESULTS:
        print(page.write(table.lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
