"""Stores measurements in a file outside the checkout, so that an interrupted benchmark can continue."""

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.engines.cases import CASES
from benchmarks.environments import ROOT

_PAGE_FILES = ("cases.py", "page.py", "plot.py", "texts.py", "remarks.py", "judge.py", "tables.py")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The figures of one engine in one round."""

    case: str
    engine: str
    round: int
    figures: dict[str, float]


class Results:
    """All measurements of one version of the sources, saved after each. Changed cases are measured again.

    Args:
        path: The results file. A file of another version of the sources is renamed to `NAME.old`.
        keep: Whether to keep the results in the file even if the sources have changed.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        self.measurements: list[Measurement] = []
        self.errors: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.profiles: dict[str, list[str]] = {}
        self.cases = {name: case.digest for name, case in CASES.items()}
        self.about: dict[str, str] = {"sources": digest(), "commit": _commit(), **machine()}
        if path.is_file():
            self._read(json.loads(path.read_text(encoding="utf-8")), keep=keep)

    def _read(self, held: dict[str, Any], *, keep: bool) -> None:
        if not keep and held["about"]["sources"] != self.about["sources"]:
            print(f"the sources have changed: earlier results were renamed to {self.path.name}.old")
            self.path.replace(self.path.with_name(self.path.name + ".old"))
            return
        same = {
            case
            for case, made_from in held.get("cases", self.cases).items()
            if keep or made_from == self.cases.get(case)
        }
        self.measurements = [Measurement(**each) for each in held["measurements"] if each["case"] in same]
        self.profiles = {case: lines for case, lines in held["profiles"].items() if case in same}
        self.versions, self.about = held["versions"], held["about"]

    def add(self, case: str, engine: str, number: int, answer: dict[str, Any]) -> None:
        """Adds an answer, and writes the file."""
        if "error" in answer:
            self.errors[f"{case}, {engine}"] = answer["error"]
            return
        self.measurements.append(Measurement(case, engine, number, answer["figures"]))
        self.versions[engine] = answer["versions"]
        if "profile" in answer:
            self.profiles[case] = answer["profile"]
        self.about["when"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        self.write()

    def write(self) -> None:
        """Writes the file atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        held = {
            "about": self.about,
            "cases": self.cases,
            "versions": self.versions,
            "measurements": [dataclasses.asdict(each) for each in self.measurements],
            "profiles": self.profiles,
        }
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(json.dumps(held, indent=1), encoding="utf-8")
        new.replace(self.path)

    def has(self, case: str, engine: str, number: int) -> bool:
        """Checks whether a measurement exists."""
        return any((each.case, each.engine, each.round) == (case, engine, number) for each in self.measurements)

    def by_round(self, case: str, engine: str, figure: str) -> dict[int, float]:
        """Returns a figure of an engine by round number."""
        return {
            each.round: each.figures[figure]
            for each in self.measurements
            if (each.case, each.engine) == (case, engine) and figure in each.figures
        }


def digest() -> str:
    """Returns a digest of all sources that affect figures: footplate and this package, without cases and page."""
    own = Path(__file__).parent
    paths = sorted(
        path
        for folder in (ROOT / "src" / "footplate", own)
        for path in folder.rglob("*")
        if path.suffix in (".py", ".txt") and not (path.parent == own and path.name in _PAGE_FILES)
    )
    found = hashlib.sha256()
    for path in paths:
        found.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def machine() -> dict[str, str]:
    """Returns a description of the machine."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
