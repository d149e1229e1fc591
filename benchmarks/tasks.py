"""Trains every recipe at full length, one after the other, and compares its metrics with their bars.

    python -m benchmarks tasks [RECIPE ...] [--work-dir DIR] [--seconds N]

Each recipe runs as `footplate train RECIPE` in a separate process. The table shows each metric with its bar, the time,
and the folder of the images. The exit code is 1 if a bar is missed, or if a run fails or takes too long.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.tables import plain

SECONDS = 300


class Bar(NamedTuple):
    """The minimum of a metric: a number, or another metric of the same run."""

    metric: str
    least: float | str | None = None  # None: the metric only has to exist


BARS: dict[str, list[Bar]] = {
    "fashion-seg": [Bar("mIoU", 55.0)],
    "fashion-segformer": [Bar("mIoU")],
    "fashion-det": [Bar("coco/bbox_mAP", 0.35), Bar("coco/bbox_mAP_50", 0.60)],
    "fashion-cls": [Bar("accuracy/top1", 80.0)],
    # Gains are percentage points above the same probe on the untrained network.
    "fashion-simclr": [Bar("gain/knn/top1", 10.0), Bar("gain/linear/top1", 0.0), Bar("linear/top1", "pixels/top1")],
    "fashion-mae": [Bar("gain/knn/top1", 10.0), Bar("gain/linear/top1", 10.0)],
}


class Outcome(NamedTuple):
    """The result of a run for one bar."""

    recipe: str
    metric: str
    value: float | None
    least: float | None
    seconds: float
    pictures: str

    @property
    def passed(self) -> bool:
        return self.value is not None and (self.least is None or self.value >= self.least)


def train(recipe: str, folder: Path) -> tuple[int, float]:
    """Trains one recipe, and returns its exit code and the seconds it took."""
    began = time.monotonic()
    code = [sys.executable, "-m", "footplate", "train", recipe, "--work-dir", str(folder)]
    done = subprocess.run(code, check=False)
    return done.returncode, time.monotonic() - began


def latest_run(folder: Path) -> Path | None:
    """Returns the folder of the newest run."""
    return max((each.parent.parent for each in folder.glob("*/vis_data/scalars.json")), default=None)


def last_metrics(run: Path | None) -> dict[str, float]:
    """Returns the last value of every scalar; validation values override training values of the same name."""
    if run is None:
        return {}
    lines = [json.loads(line) for line in (run / "vis_data/scalars.json").read_text().splitlines()]
    found: dict[str, float] = {}
    for line in (*(each for each in lines if "lr" in each), *(each for each in lines if "lr" not in each)):
        found.update({name: value for name, value in line.items() if isinstance(value, (int, float))})
    return found


def judge(recipe: str, folder: Path, seconds: float) -> list[Outcome]:
    """Returns an outcome for each bar of a recipe."""
    run = latest_run(folder)
    metrics = last_metrics(run)
    pictures = "" if run is None else os.path.relpath(run / "vis_data" / "vis_image")
    found = []
    for bar in BARS[recipe]:
        least = metrics.get(bar.least) if isinstance(bar.least, str) else bar.least
        missing = isinstance(bar.least, str) and least is None
        value = None if missing else metrics.get(bar.metric)
        found.append(Outcome(recipe, bar.metric, value, least, seconds, pictures))
    return found


def table(outcomes: list[Outcome]) -> str:
    """Formats the outcomes as a table."""
    rows = []
    for each in outcomes:
        value = "none" if each.value is None else f"{each.value:.3f}"
        bar = "" if each.least is None else f">= {each.least:.3f}"
        word = "ok" if each.passed else "MISSED"
        rows.append((each.recipe, each.metric, value, bar, word, f"{each.seconds:.0f} s", each.pictures))
    return plain(("recipe", "metric", "figure", "bar", "", "time", "images"), rows)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(BARS))
    parser.add_argument("--work-dir", default="work_dirs/tasks")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the most that a recipe may take")
    chosen = parser.parse_args()
    unknown = [each for each in chosen.recipes if each not in BARS]
    if unknown:
        parser.error(f"no bar is known for {', '.join(unknown)}")
    outcomes: list[Outcome] = []
    troubles: list[str] = []
    for recipe in chosen.recipes or BARS:
        code, seconds = train(recipe, Path(chosen.work_dir) / recipe)
        outcomes += judge(recipe, Path(chosen.work_dir) / recipe, seconds)
        if code:
            troubles.append(f"{recipe}: exit code {code}")
        if seconds > chosen.seconds:
            troubles.append(f"{recipe}: {seconds:.0f} s, at most {chosen.seconds:.0f} s are wanted")
    print(table(outcomes))
    print("\n".join(troubles))
    return int(bool(troubles) or not all(each.passed for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
