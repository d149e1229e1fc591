"""Measures the HTML report of a run of 100,000 iterations: its size, and the time to write it and to open it.

    python benchmarks/report.py [--iters 100000] [--interval 10] [--runs 1] [--keep DIR]

The model has two layers, so that the run takes a few minutes. Records, config, environment, log, images and checkpoints
are those of a normal run. The page is opened in Chromium five times, 1200 and 400 pixels wide; the median time from the
request until it is drawn is printed. Limits: 3 MB, 1 s.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from footplate import Hook, Runner
from footplate.tools.report import write_report
from footplate.tools.runs import read_run

ROOT = str(Path(__file__).parents[1])
_FLAGS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
_OPENED = 5
_DRAWN = """
const done = arguments[arguments.length - 1];
requestAnimationFrame(() => requestAnimationFrame(() => done([
  performance.now(), document.documentElement.scrollWidth, document.querySelectorAll('.uplot').length])));
"""


class _Pictures(Hook):
    """Adds an image at each tenth of the run, as a validation does."""

    def __init__(self, every: int) -> None:
        self.every = every

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Adds the image if it is due."""
        if self.every_n_train_iters(runner, self.every):
            picture = np.random.default_rng(runner.iter).integers(0, 255, (128, 384, 3), np.uint8)
            runner.visualizer.add_image(
                "val_0", np.kron(picture[::8, ::8], np.ones((8, 8, 1), np.uint8)), runner.iter + 1
            )


def make_run(folder: str, iters: int, interval: int) -> None:
    """Trains a run with all its output files.

    Args:
        folder: The work_dir.
        iters: The number of iterations.
        interval: The number of iterations between two lines of scalars.
    """
    sys.path.insert(0, ROOT)
    from tests.support import settings

    every = max(iters // 10, 1)
    cfg = settings(folder, by_epoch=False, train_cfg={"by_epoch": False, "max_iters": iters, "val_interval": every})
    cfg["default_hooks"] = {"logger": {"interval": interval}, "checkpoint": {"by_epoch": False, "interval": every}}
    cfg["param_scheduler"] = {"type": "CosineAnnealingLR", "T_max": iters, "by_epoch": False}
    Runner(**cfg, custom_hooks=[_Pictures(every)]).train()


def open_page(path: str, width: int) -> tuple[float, float, int]:
    """Opens a page in Chromium several times; returns the median seconds, its width, and the number of charts."""
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
    """Creates the runs and their report, and prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--iters", type=int, default=100_000)
    parser.add_argument("--interval", type=int, default=10)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--keep", metavar="DIR", help="where work_dirs and page stay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or temporary
        names = [os.path.join(folder, f"run{number}") for number in range(arguments.runs)]
        for name in names:
            begin = time.perf_counter()
            make_run(name, arguments.iters, arguments.interval)
            print(f"{name}: {arguments.iters} iterations in {time.perf_counter() - begin:.0f} s", flush=True)
        page, begin = os.path.join(folder, "report.html"), time.perf_counter()
        size = write_report([read_run(name) for name in names], page)
        print(f"page: {size / 1e6:.2f} MB, written in {time.perf_counter() - begin:.1f} s", flush=True)
        for width in (1200, 400):
            seconds, wide, charts = open_page(page, width)
            print(
                f"opened at {width} columns: {seconds:.2f} s, {charts} charts, the page is {wide:.0f} wide", flush=True
            )


if __name__ == "__main__":
    main()
