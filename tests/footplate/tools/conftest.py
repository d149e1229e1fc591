"""A config of a few lines whose topics fit on a screen."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from footplate.config import Config
from footplate.engine.plan.plan import RunPlan
from footplate.tools.report import write_report
from footplate.tools.runs import Run, read_run
from tests.browser import open_browser

TEXT = """
model = dict(type='SmallSegmentor', num_classes=3, widths=(4, 8), depths=(1, 1))
train_dataloader = dict(batch_size=2, dataset=dict(type='FashionScenes', split='train', length=10))
val_dataloader = dict(batch_size=2, dataset=dict(type='FashionScenes', split='test', length=4))
val_evaluator = [dict(type='IoUMetric')]
train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=4)
val_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'stem': dict(lr_mult=0.1)}),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[2, 4], gamma=0.1)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, save_best='mIoU', max_keep_ckpts=3))
"""

Show = Callable[..., Any]
MakeRun = Callable[..., Run]
Write = Callable[..., Config]
Plan = Callable[..., RunPlan]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str = "", *, name: str = "run.py", base: str = TEXT) -> Config:
        (tmp_path / name).write_text(base + text)
        return Config.fromfile(tmp_path / name)

    return write


@pytest.fixture
def plan(write: Write) -> Plan:
    def plan(*text: str, **files: str) -> RunPlan:
        cfg = write(*text, **files)
        cfg["work_dir"] = "work"
        return RunPlan.from_config(cfg)

    return plan


WARNING = {
    "time": "2026/01/01 00:00:01",
    "logger": "footplate",
    "level": "WARNING",
    "message": "the disk is nearly full",
}
PER_CLASS = {
    "step": 400,
    "mode": "val",
    "dataset": "",
    "metric": "IoU",
    "columns": ["class", "IoU", "Acc"],
    "rows": [["T-shirt/top", 53.59, 65.96], ["ankle boot", 57.39, 79.45]],
}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make_run(name: str = "first", *, lr: float = 0.1, lines: int = 40, interval: int = 10) -> Run:
        start = tmp_path / name / "20260101_000000"
        (start / "vis_data/vis_image").mkdir(parents=True)
        with (start / "vis_data/scalars.json").open("w") as file:
            for number in range(1, lines + 1):
                at = number * interval
                loss = 2 / (1 + number / 10) + 0.2 * math.sin(number)
                file.write(json.dumps({"lr": lr, "loss": loss, "time": 0.1, "iter": at, "step": at}) + "\n")
                if number % (lines // 4) == 0:
                    file.write(json.dumps({"mIoU": number + 10 * lr, "step": at}) + "\n")
        for step in (100, 200):
            Image.new("RGB", (900, 300), (step, 0, 0)).save(start / f"vis_data/vis_image/val_3_{step}.png")
        (start / "vis_data/config.py").write_text(f"lr = {lr}\n")
        (start / "explained.txt").write_text(f"lr = {lr}  # base.py:7\n")
        (start / "environment.json").write_text('{"python": "3.11", "packages": {"torch": "2"}}')
        (start / "run.warnings.jsonl").write_text(json.dumps(WARNING) + "\n")
        (start / "vis_data/per_class.jsonl").write_text(json.dumps(PER_CLASS) + "\n")
        return read_run(tmp_path / name)

    return make_run


def with_values(run: Run, name: str, values: Iterable[float], interval: float = 100.0) -> Run:
    """Returns the run with other values of one series, one every `interval` iterations."""
    points = [(interval * place, float(value)) for place, value in enumerate(values, start=1)]
    return run._replace(series=[each._replace(points=points) if each.name == name else each for each in run.series])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser("--allow-file-access-from-files") as opened:
        yield opened


def text_of(page: Any, selector: str) -> str:
    """Returns the text of an element as a reader sees it, on one line."""
    return " ".join(page.find_element("css selector", selector).text.split())


def texts_of(page: Any, selector: str) -> list[str]:
    """Returns the texts of all elements as a reader sees them, each on one line."""
    return [" ".join(each.text.split()) for each in page.find_elements("css selector", selector)]


@pytest.fixture
def show(browser: Any, make_run: MakeRun, tmp_path: Path) -> Iterator[Show]:
    """Opens the page of runs, and looks in the end that it wrote nothing to the console and asked for no address."""

    def show(*runs: Run, width: int = 1200) -> Any:
        write_report(runs, str(tmp_path / "report.html"))
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(f"file://{tmp_path}/report.html")
        browser.execute_script("localStorage.clear()")
        return browser

    yield show
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    asked = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert asked
    assert not [message for message in asked if '"url":"http' in message]
