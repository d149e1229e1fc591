"""Measures the HTML report of large runs: its size, and the time to write it and to open it.

    python benchmarks/report.py [--runs 5] [--iters 100000] [--classes 150] [--sets 3] [--keep DIR]

The records of the runs are written directly, in the form that training writes them: losses every 10 iterations, and 50
validations of each set with per-class results and images. The page is opened in Chromium five times, 1200 and 400
pixels wide; the median time from the request until the first screen is drawn is printed. Limits: 3 MB, 1 s.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from footplate.config import Config
from footplate.tools.report import write_report
from footplate.tools.runs import read_run

_FLAGS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
_OPENED = 5
_INTERVAL = 10  # iterations between two lines of scalars
_VALIDATIONS = 50
_PICTURES, _PICTURE_STEPS = 4, 10
_DRAWN = """
const done = arguments[arguments.length - 1];
const wait = () => {
  const drawn = document.querySelectorAll('.plot svg path.line').length;
  if (!drawn) return requestAnimationFrame(wait);
  requestAnimationFrame(() => done([performance.now(), document.documentElement.scrollWidth, drawn]));
};
wait();
"""


def make_run(folder: Path, seed: int, *, iters: int, classes: int, sets: int) -> None:
    """Writes the records of a run.

    Args:
        folder: The work_dir.
        seed: The seed of all numbers.
        iters: The number of iterations.
        classes: The number of classes of each set.
        sets: The number of validation sets.
    """
    random = np.random.default_rng(seed)
    records = folder / "20260101_000000" / "vis_data"
    (records / "vis_image").mkdir(parents=True)
    names = [f"set{number}" for number in range(sets)]
    every = max(iters // _VALIDATIONS, 1)
    level = random.uniform(10, 60, (sets, classes))
    with (records / "scalars.json").open("w") as scalars, (records / "per_class.jsonl").open("w") as tables:
        for at in range(_INTERVAL, iters + 1, _INTERVAL):
            scalars.write(json.dumps(_training(at / iters, random) | {"iter": at, "step": at}) + "\n")
            if at % every == 0:
                share = at / iters
                iou = np.clip(level * share**0.3 + random.normal(0, 2, level.shape), 0, 100)
                scalars.write(json.dumps(_validation(names, iou, share) | {"step": at}) + "\n")
                for table in _tables(names, iou, at):
                    tables.write(json.dumps(table) + "\n")
    for picture in range(_PICTURES):
        for step in range(iters // _PICTURE_STEPS, iters + 1, iters // _PICTURE_STEPS):
            blocks = random.integers(0, 255, (16, 64, 3), np.uint8)
            image = np.kron(blocks, np.ones((16, 16, 1), np.uint8))
            Image.fromarray(image).save(records / "vis_image" / f"val_{picture}_{step}.png")
    cfg = Config.fromfile("footplate::fashion-seg.py")
    cfg.train_cfg.max_iters, cfg.randomness.seed = iters, seed
    cfg.default_hooks.checkpoint.save_best = "set0/mIoU" if sets else "mIoU"
    (records / "config.json").write_text(json.dumps(cfg.to_dict()))
    (records.parent / "explained.txt").write_text(cfg.pretty_text)
    environment = {"python": "3.11", "accelerator": "none", "packages": {f"package-{n}": "1.0" for n in range(200)}}
    (records.parent / "environment.json").write_text(json.dumps(environment))


def _training(share: float, random: np.random.Generator) -> dict[str, float]:
    """Returns a line of training scalars at a share of the run."""
    loss = 2.0 / (1 + 20 * share) + float(random.normal(0, 0.05))
    return {
        "lr": 0.01 * (1 - share) ** 0.9,
        "loss": 1.4 * loss,
        "decode.loss_ce": loss,
        "aux.loss_ce": 0.4 * loss,
        "decode.acc_seg": 90 - 30 * loss,
        "grad_norm": float(random.uniform(0.5, 3)),
        "time": float(random.uniform(0.3, 0.4)),
        "data_time": 0.01,
        "memory": 9000,
    }


def _validation(names: list[str], iou: Any, share: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, values in zip(names, iou, strict=True):
        mean = float(values.mean())
        found |= {f"{name}/aAcc": 50 + mean / 2, f"{name}/mIoU": mean, f"{name}/mAcc": 1.2 * mean}
        found[f"{name}/loss"] = 1.5 - 0.8 * share**0.3 + 0.3 * max(share - 0.6, 0)
    return found


def _tables(names: list[str], iou: Any, step: int) -> Iterator[dict[str, Any]]:
    for name, values in zip(names, iou, strict=True):
        rows = [[f"class number {place}", float(value), float(value) * 1.2] for place, value in enumerate(values)]
        columns = ["class", "IoU", "Acc"]
        yield {"step": step, "mode": "val", "dataset": name, "metric": "IoU", "columns": columns, "rows": rows}


def open_page(path: str, width: int) -> tuple[float, float, int]:
    """Opens a page in Chromium several times; returns the median seconds, its width, and the number of curves."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in _FLAGS.split():
        options.add_argument(flag)
    found = []
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for _ in range(_OPENED):
            browser.get(f"file://{os.path.abspath(path)}")
            found.append(browser.execute_async_script(_DRAWN))
    return statistics.median(each[0] for each in found) / 1000, found[-1][1], found[-1][2]


def main() -> None:
    """Writes the runs and their report, and prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--iters", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--keep", metavar="DIR", help="where work_dirs and page stay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        runs = [folder / f"run{number}" for number in range(arguments.runs)]
        for seed, run in enumerate(runs):
            if not run.exists():
                make_run(run, seed, iters=arguments.iters, classes=arguments.classes, sets=arguments.sets)
        page, begin = str(folder / "report.html"), time.perf_counter()
        size = write_report([read_run(run) for run in runs], page)
        print(f"page: {size / 1e6:.2f} MB, read and written in {time.perf_counter() - begin:.1f} s", flush=True)
        for width in (1200, 400):
            seconds, wide, curves = open_page(page, width)
            print(f"opened {width} pixels wide: {seconds:.2f} s, {curves} curves, the page is {wide:.0f} wide")


if __name__ == "__main__":
    main()
