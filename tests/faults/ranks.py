"""The row of several processes: one is killed, all end within seconds, and the resumed run is equal on each rank."""

import os
import random
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate import Hook, Run, Runner
from footplate.checkpoint import find_newest, load_checkpoint
from footplate.engine.saving import resume_plan, state
from tests.faults.processes import end, fork, replace_in
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import first_difference, outcome
from tests.support import free_port, loader, settings

WORLD = 8
_MOST_SECONDS = 10.0
_PATIENCE = 60.0
_TRIES = 5
_A_SAVE = 0.003  # seconds


class Told(Hook):
    """Reports through a pipe that a rank starts training, and through a file the iteration at which it starts.

    Args:
        writer: The write end of the pipe.
        path: The file.
    """

    def __init__(self, writer: int, path: Path) -> None:
        self.writer, self.path = writer, path

    def before_train(self, runner: Run) -> None:
        """Writes the report."""
        self.path.write_text(str(runner.iter))
        os.write(self.writer, b"x")


class RankTrials:
    """Runs of eight ranks, one of which is killed at a random time; for odd seeds, while a checkpoint is written.

    Args:
        folder: The working folder of runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: list[dict[str, Any]] = []
        self._lasts = 0.0

    def trial(self, seed: int, fault: Fault | None) -> Finding:
        """Kills a rank, measures how long the others live, resumes them, and compares all outcomes."""
        if not self._whole:
            self._run_whole()
        draw = random.Random(seed)
        for _ in range(_TRIES):
            killed, place, processes, saving = self._kill(draw, seed, fault)
            seconds, codes = _await(processes, _MOST_SECONDS + 2)
            if any(codes):
                break  # otherwise the kill came too late
        figures = {"count": 1.0, "seconds": seconds, "saving": float(saving), "killed": float(any(codes))}
        wrong = f"others lived on for {seconds:.0f} s: {codes}" if seconds > _MOST_SECONDS else ""
        committed = _committed(place / "work")
        if not wrong and any(codes):
            (place / "begun_0").unlink()
            _, codes = _await(self._start(place, fault))
            told = place / "begun_0"  # missing if there was nothing left to train
            begun = int(told.read_text()) if told.exists() else committed
            wrong = f"they went on from iteration {begun}: {committed} was committed" if begun < committed else ""
            wrong = wrong or (f"resumed they ended with {codes}: {_said(place)[-400:]}" if any(codes) else "")
        if not wrong:
            pairs = zip(self._whole, _outcomes(place), strict=True)
            parts = [f"{part} of rank {rank}" for rank, pair in enumerate(pairs) if (part := first_difference(*pair))]
            wrong = f"resumed, {parts[0]} is another" if parts else ""
        return Finding(f"rank {killed} was killed, and {wrong}" if wrong else "", figures)

    def _kill(self, draw: random.Random, seed: int, fault: Fault | None) -> tuple[int, Path, list[int], bool]:
        """Starts a run and kills one rank; returns the rank, the folder, all processes, and whether one was saving."""
        place = self._folder / "run"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        killed, instant = draw.randrange(WORLD), draw.uniform(0.0, self._lasts)
        if seed % 2:  # the writing rank, every other time
            killed = draw.choice((0, killed))
        processes = self._start(place, fault)
        time.sleep(instant)
        saving = bool(seed % 2) and _await_save(place / "work", draw.uniform(0.0, _A_SAVE))
        os.kill(processes[killed], signal.SIGKILL)
        return killed, place, processes, saving

    def _run_whole(self) -> None:
        place = self._folder / "whole"
        place.mkdir()
        processes, begun = self._start(place, None), time.monotonic()
        _, codes = _await(processes)
        self._lasts = time.monotonic() - begun
        if any(codes):
            raise RuntimeError(f"the ranks do not even end alone: {codes}: {_said(place)[-400:]}")
        self._whole = _outcomes(place)

    def _start(self, place: Path, fault: Fault | None) -> list[int]:
        """Starts all ranks, and returns their processes once each has started training or ended."""
        reader, writer = os.pipe()
        port = free_port()
        hooks = [Told(writer, place / f"begun_{rank}") for rank in range(WORLD)]
        works = [_training(place, rank, port, hook, fault) for rank, hook in enumerate(hooks)]
        processes = [fork(work, place / f"{rank}.log") for rank, work in enumerate(works)]
        os.close(writer)
        told, until = b"", time.monotonic() + _PATIENCE
        while len(told) < WORLD and select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            piece = os.read(reader, WORLD)
            if not piece:
                break
            told += piece
        os.close(reader)
        return processes


def begin_ranks(folder: Path) -> Trial:
    """Prepares trials of eight ranks."""
    return RankTrials(folder).trial


def _training(place: Path, rank: int, port: int, hook: Hook, fault: Fault | None) -> Callable[[], int]:
    def train() -> int:
        if fault is not None:
            fault()
        names = {"RANK": rank, "WORLD_SIZE": WORLD, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        runner = Runner(**_config(place / "work", hook))
        runner.train()
        torch.save(outcome(runner), place / f"{rank}.pt")
        return 0

    return train


def _config(work_dir: Path, hook: Hook) -> dict[str, Any]:
    return settings(
        work_dir,
        by_epoch=False,
        model={"type": "ToyModel", "dropout": 0.3, "is_weighted": True},
        train_dataloader=loader(64, batch_size=2),
        val_dataloader=loader(16, shuffle=False, batch_size=1),
        train_cfg={"by_epoch": False, "max_iters": 12, "val_interval": 4},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.02}},
        default_hooks={"logger": None, "checkpoint": {"by_epoch": False, "interval": 2, "max_keep_ckpts": 2}},
        randomness={"seed": 7, "diff_rank_seed": True},
        env_cfg={"dist_cfg": {"backend": "gloo", "timeout": 60}},
        launcher="pytorch",
        custom_hooks=[hook],
        log_level="ERROR",
        resume=True,
    )


def _outcomes(place: Path) -> list[dict[str, Any]]:
    """Returns the outcomes of the ranks; histories only of the first rank, which logs."""
    found = [torch.load(place / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]
    return [{**each, "histories": each["histories"] if not rank else {}} for rank, each in enumerate(found)]


def _await(processes: list[int], patience: float = _PATIENCE) -> tuple[float, list[int]]:
    """Returns the seconds until the last process ended, and the exit codes."""
    begun = time.monotonic()
    codes = [end(process, max(0.1, begun + patience - time.monotonic())) for process in processes]
    return time.monotonic() - begun, codes


def _await_save(work_dir: Path, into_it: float) -> bool:
    """Waits until a checkpoint is being written, and `into_it` seconds more; returns False if none is written."""
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        if any(work_dir.glob("*.partial")):
            time.sleep(into_it)
            return True
    return False


def _committed(work_dir: Path) -> int:
    """Returns the iteration of the newest complete checkpoint, or 0."""
    found = find_newest(work_dir) if work_dir.is_dir() else None
    return int(load_checkpoint(found)["meta"]["iter"]) if found else 0


def _said(place: Path) -> str:
    return " | ".join(each.read_text() for each in sorted(place.glob("*.log")) if each.stat().st_size)


def hold_on() -> None:
    """Makes a rank whose run failed wait instead of ending."""
    whole = Runner.train

    def train(self: Runner) -> Any:
        try:
            return whole(self)
        except Exception:
            time.sleep(15)
            raise

    Runner.train = train  # type: ignore[method-assign]


def forget_commits() -> None:
    """Makes each run start over despite existing checkpoints."""
    replace_in(resume_plan, "load_newest", lambda folder: None)


def forget_ranks() -> None:
    """Gives each rank the random state of the first rank."""
    state.random_of = lambda checkpoint, rank: checkpoint["run"]["random"]
