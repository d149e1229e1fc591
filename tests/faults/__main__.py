"""The fault harness: interrupts runs at random and compares how they end with runs that were left alone.

    python -m tests.faults [--kills 1000] [--signals 400] [--minutes 60] [--seed 0]

Each trial is a function of its number. Results go to `.faults/results.jsonl`; begun again, it goes on where it was.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from tests.faults.control import PLANTED
from tests.faults.runs import warm_up
from tests.faults.trials import Trials

_TRIES = 25
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_control(trials: Trials, done: Collection[str] = (), *, tries: int = _TRIES) -> Iterator[dict[str, str]]:
    """Yields each planted fault with what was found of it, "" where nothing was."""
    for name, (fault, numbers) in PLANTED.items():
        if f"control: {name}" not in done:
            trials.fault = fault
            found = (trials.interrupt(seed, numbers, times=1) for seed in range(tries))
            yield {"kind": "control", "name": f"control: {name}", "found": next(filter(None, found), "")}
    trials.fault = None


def main() -> int:
    """Runs what is asked for and returns 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--signals", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(".faults"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(exist_ok=True)
    results = arguments.folder / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    until = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as work, results.open("a") as file:
        for entry in _work(arguments, Path(work), {each["name"] for each in done}):
            done.append(entry)
            file.write(json.dumps(entry) + "\n")
            file.flush()
            if time.monotonic() > until:
                break
    return _report(done)


def _work(arguments: argparse.Namespace, work: Path, done: set[str]) -> Iterator[dict[str, str]]:
    warm_up(work / "warm")
    trials = Trials(work)
    yield from run_control(trials, done)
    for kind, count, numbers in (
        ("kill", arguments.kills, (signal.SIGKILL,)),
        ("signal", arguments.signals, _SIGNALS),
    ):
        for seed in range(arguments.seed, arguments.seed + count):
            if f"{kind} {seed}" not in done:
                yield {"kind": kind, "name": f"{kind} {seed}", "found": trials.interrupt(seed, numbers)}


def _report(done: list[dict[str, str]]) -> int:
    wrong = 0
    for kind in ("control", "kill", "signal"):
        entries = [each for each in done if each["kind"] == kind]
        found = [each for each in entries if each["found"]]
        bad = [each for each in entries if not each["found"]] if kind == "control" else found
        right = "planted faults found" if kind == "control" else "trials bit-equal"
        sys.stdout.write(f"{kind:<8} {len(entries) - len(bad)} of {len(entries)} {right}\n")
        for each in bad:
            sys.stdout.write(f"         {each['name']}: {each['found'] or 'NOT FOUND'}\n")
        wrong += len(bad)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
