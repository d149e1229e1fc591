"""Trials: a run that is interrupted at random times must end like an uninterrupted one."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch

from footplate.checkpoint import find_newest
from footplate.engine.control.requests import ON_REQUEST
from tests.faults.processes import end
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import all_settings, config, first_difference, start

Configs: TypeAlias = Callable[[Path, int], dict[str, Any]]


class Trials:
    """Interrupts runs, and compares their outcomes.

    Args:
        folder: The working folder of runs; files of successful trials are removed.
        configs: Builds the config of a setting in a folder.
        count: The number of settings.

    Attributes:
        fault: A fault to plant in each interrupted run, for the control.
    """

    def __init__(self, folder: Path, configs: Configs | None = None, count: int = 0) -> None:
        self.folder = folder
        self._configs = configs or (lambda place, number: config(place, all_settings()[number]))
        self._count = count or len(all_settings())
        self.fault: Callable[[], None] | None = None
        self._whole: dict[int, tuple[dict[str, Any], float]] = {}

    def whole(self, number: int) -> tuple[dict[str, Any], float]:
        """Returns outcome and duration, in seconds, of the uninterrupted run of a setting."""
        if number not in self._whole:
            place = self.folder / f"whole-{number}"
            begun = time.monotonic()
            code = end(start({**self._configs(place, number), "preflight": False}, place.with_suffix(".pt")))
            if code:
                raise RuntimeError(f"setting {number} does not even run alone: {code}, see {place}.log")
            self._whole[number] = torch.load(place.with_suffix(".pt"), weights_only=False), time.monotonic() - begun
        return self._whole[number]

    def interrupt(self, seed: int, numbers: tuple[int, ...], times: int = 2) -> str:
        """Interrupts one run at random times, up to `times` times, and resumes it.

        Args:
            seed: The seed of setting, signal and times.
            numbers: The signals to choose from.
            times: The maximum number of interruptions.

        Returns:
            The error, or "".
        """
        draw = random.Random(seed)
        number = draw.randrange(self._count)
        expected, lasts = self.whole(number)
        place = self.folder / f"trial-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        result = place.with_suffix(".pt")
        result.unlink(missing_ok=True)
        found = self._interrupted(draw, self._configs(place, number), result, numbers, lasts, times)
        if not found and not result.exists():
            found = "exit code 0 without an end"
        if not found:
            found = first_difference(expected, torch.load(result, weights_only=False))
        if not found:
            shutil.rmtree(place, ignore_errors=True)
            for each in (result, result.with_suffix(".log")):
                each.unlink(missing_ok=True)
        return found and f"setting {number}: {found}"

    def _interrupted(
        self, draw: random.Random, cfg: dict[str, Any], result: Path, numbers: tuple[int, ...], lasts: float, times: int
    ) -> str:
        for _ in range(times):
            process = start(cfg, result, self.fault)
            self._wait(draw.uniform(0.0, lasts), Path(cfg["work_dir"]))
            sent = draw.choice(numbers)
            os.kill(process, sent)
            code = end(process)
            if code == 0:
                return ""
            if code not in (-sent, 128 + sent):
                return f"exit code {code} after {signal.Signals(sent).name}"
            if code == 128 + signal.SIGTERM and not (
                # In the first iteration of a process, there is nothing to save.
                _is_saved_on_request(cfg["work_dir"])
                or "stopping this process's first iteration" in result.with_suffix(".log").read_text()
            ):
                return "it stopped without saving"
        code = end(start(cfg, result, self.fault))
        return f"exit code {code} when resumed" if code else ""

    def _wait(self, seconds: float, work_dir: Path) -> None:
        """Waits some time; with a planted fault, until the run has saved a checkpoint, so that the fault can act."""
        if self.fault is None:
            time.sleep(seconds)
            return
        until = time.monotonic() + max(10.0, 5 * seconds)
        while time.monotonic() < until and not any(work_dir.glob("*.pth")):
            time.sleep(0.002)


def _is_saved_on_request(work_dir: str) -> bool:
    """Checks whether a stop saved the newest checkpoint. A stop before iteration 1 saves none, which also counts."""
    latest = find_newest(work_dir)
    return latest is None or os.path.basename(latest) == ON_REQUEST


def interrupting(*numbers: int, configs: Configs | None = None, count: int = 0) -> Callable[[Path], Trial]:
    """Returns a function that prepares trials which interrupt runs with one of these signals; see `Trials`."""

    def begin(folder: Path) -> Trial:
        trials = Trials(folder, configs, count)

        def trial(seed: int, fault: Fault | None) -> Finding:
            trials.fault = fault
            return Finding(trials.interrupt(seed, numbers, times=2 if fault is None else 1))

        return trial

    return begin
