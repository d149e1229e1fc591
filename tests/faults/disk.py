"""The disk rows: a process that dies at any system call of a save, and errors at any call of a run."""

import errno
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate import Runner
from footplate.checkpoint import find_newest, load_checkpoint, save_checkpoint, saver, write_pointer
from footplate.errors import FootplateError
from tests.faults.calls import Act, Calls, failing
from tests.faults.processes import end, fork
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import all_settings, config, first_difference, outcome, same, start

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
_DEAD = 9
_MOST_CALLS = 2000
_HALFWAY = 6


def begin_death(folder: Path) -> Trial:
    """Prepares trials in which a process dies at each call of a save, of its pointer or of removing an older one.

    The seed decides how large the state is, whether there is an older checkpoint, and whether a write is torn.
    """

    def trial(seed: int, fault: Fault | None) -> Finding:
        generator = torch.Generator().manual_seed(seed)
        torn, first = bool(seed % 2), seed % 3 == 2
        size = (50, 5_000, 300_000, 700_000)[seed % 4]
        states = {number: _state(number, size, generator) for number in (1, 2)}
        for last in range(1, _MOST_CALLS):
            place = folder / "death"
            shutil.rmtree(place, ignore_errors=True)
            if not first:
                save_checkpoint(states[1], place / "iter_1.pth")
                write_pointer(place, place / "iter_1.pth")
            died = _die(place, states[2], last, torn=torn, fault=fault)
            if not died:
                return Finding("", {"count": last - 1})
            wrong = _lost(place, states, first=first)
            if wrong:
                return Finding(f"death at call {last}: {wrong}", {"count": last})
        return Finding(f"more than {_MOST_CALLS} calls")

    return trial


def begin_disk(folder: Path) -> Trial:
    """Prepares trials of errors at the calls of a run."""
    return DiskTrials(folder).trial


def _state(number: int, size: int, generator: torch.Generator) -> dict[str, Any]:
    weights = {"weight": torch.randn(size, generator=generator), "bias": torch.randn(3, generator=generator)}
    return {"meta": {"iter": number, "epoch": 0}, "state_dict": weights, "optimizer": {"state": {0: weights["bias"]}}}


def _die(place: Path, state: dict[str, Any], last: int, *, torn: bool, fault: Fault | None) -> bool:
    newer, older = place / "iter_2.pth", place / "iter_1.pth"

    def work() -> int:
        if fault is not None:
            fault()
        calls = Calls(str(place), lambda name, count, path: _dying(calls, last, count, torn=torn))
        calls.install()
        saver.save_checkpoint(state, newer)
        write_pointer(place, newer)
        saver.remove_checkpoint(older)
        return 0

    code = end(fork(work))
    if code not in (0, _DEAD):
        raise RuntimeError(f"a save without any error ended with {code}")
    return code == _DEAD


def _dying(calls: Calls, last: int, count: int, *, torn: bool) -> None:
    if count == last:
        if torn and calls.writing is not None:
            descriptor, data = calls.writing
            calls.write(descriptor, data[: len(data) // 2])
        os._exit(_DEAD)


def _lost(place: Path, states: dict[int, dict[str, Any]], *, first: bool) -> str:
    latest = find_newest(place) if place.exists() else None
    if latest is None:
        left = [each.name for each in place.glob("*.pth")] if place.exists() else []
        return "" if first and not left else f"no whole checkpoint is left of {left}"
    loaded = load_checkpoint(latest)
    number = loaded["meta"]["iter"]
    return "" if same(loaded, states[number]) else f"{latest} is not what was saved"


class DiskTrials:
    """Runs with failing calls, which must continue or stop cleanly, lose no checkpoint, and resume bit for bit.

    Args:
        folder: The working folder of runs.
    """

    def __init__(self, folder: Path) -> None:
        self._place = folder / "run"
        self._half = folder / "half"
        self._result = folder / "run.pt"
        self._told = folder / "told"
        self._begun: dict[str, Any] | None = None

    def trial(self, seed: int, fault: Fault | None) -> Finding:
        """Makes one call fail. The seed determines the call, the error, and whether later calls fail too."""
        if self._begun is None:
            self._begun = self._begin()
        code, rest = ERRORS[seed % len(ERRORS)], seed // len(ERRORS)
        lasting, number = bool(rest % 2), 1 + rest // 2
        self._restore()
        ended = end(fork(self._work(failing(number, code, lasting=lasting), fault), self._log))
        wrong = self._judge(ended)
        calls = int(self._told.read_text().splitlines()[-1])
        where = f"{errno.errorcode[code]} {'from' if lasting else 'at'} call {number} of {calls}"
        return Finding(wrong and f"{where}: {wrong}", {"count": float(calls >= number), "calls": calls})

    @property
    def _log(self) -> Path:
        return self._result.with_suffix(".log")

    def _begin(self) -> dict[str, Any]:
        """Trains a reference run to its end, and another until it has two checkpoints, the start of each trial."""
        if end(start(_config(self._place), self._result)):
            raise RuntimeError(f"the run does not even end alone, see {self._log}")
        whole: dict[str, Any] = torch.load(self._result, weights_only=False)
        shutil.rmtree(self._place)
        code = end(start(_config(self._place, {"type": "KillForTest", "iteration": _HALFWAY}), self._result))
        if code != -signal.SIGKILL:
            raise RuntimeError(f"half a run ended with {code}, see {self._log}")
        self._place.rename(self._half)
        return whole

    def _restore(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._half, self._place)
        for each in (self._result, self._log):
            each.unlink(missing_ok=True)
        self._told.write_text(f"{_HALFWAY}\n")

    def _work(self, act: Act, fault: Fault | None) -> Callable[[], int]:
        """Returns the work of a process, which trains with failing calls and reports its commits and its calls."""

        def work() -> int:
            if fault is not None:
                fault()
            told, write = os.open(self._told, os.O_WRONLY | os.O_APPEND), os.write
            _telling_commits(lambda number: write(told, f"{number}\n".encode()))
            calls = Calls(str(self._place), act)
            calls.install()
            try:
                return _train(_config(self._place), self._result)
            finally:
                write(told, f"{calls.count}\n".encode())

        return work

    def _judge(self, ended: int) -> str:
        log = self._log.read_text()
        if ended not in (0, 2):
            return f"ended with {ended}: {log[-300:]}"
        if "starts anew" in log:
            return "it started anew beside checkpoints"
        wrong = first_difference(self._begun or {}, torch.load(self._result, weights_only=False)) if not ended else ""
        if wrong:
            return f"it went on, and {wrong} is another"
        committed = int(self._told.read_text().splitlines()[-2])
        latest = find_newest(self._place)
        found = load_checkpoint(latest)["meta"]["iter"] if latest else 0
        if found < committed:
            return f"the checkpoint of iteration {committed} is lost, the newest is that of {found}"
        self._result.unlink(missing_ok=True)
        code = end(start(_config(self._place), self._result))
        if code:
            return f"resuming ended with {code}: {self._log.read_text()[-300:]}"
        wrong = first_difference(self._begun or {}, torch.load(self._result, weights_only=False))
        return wrong and f"resumed, {wrong} is another"


def _train(cfg: dict[str, Any], result: Path) -> int:
    """Returns the exit code of the command line, or 70 if it would show a traceback."""
    try:
        runner = Runner(**cfg)
        runner.train()
    except FootplateError as error:
        print(error, flush=True)
        return error.exit_code
    except OSError as error:
        traceback.print_exc()
        return 70 if error.filename is None else 2
    torch.save(outcome(runner), result)
    return 0


def _telling_commits(tell: Callable[[int], Any]) -> None:
    commit = saver.commit_checkpoint

    def commit_and_tell(plain: Any, path: str) -> None:
        commit(plain, path)
        tell(plain["meta"]["iter"])

    saver.commit_checkpoint = commit_and_tell  # type: ignore[assignment]


def _config(place: Path, *hooks: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a run that writes everything: log, scalars, and regular, best and published checkpoints."""
    cfg = config(place, all_settings()[7])
    checkpoint = {"by_epoch": False, "interval": 3, "max_keep_ckpts": 1, "save_best": "accuracy"}
    cfg["default_hooks"] = {"logger": {"interval": 2}, "checkpoint": {**checkpoint, "rule": "greater"}}
    cfg["default_hooks"]["checkpoint"]["published_keys"] = ["meta", "state_dict"]
    cfg["train_dataloader"]["num_workers"] = 0
    cfg["custom_hooks"] = [*cfg["custom_hooks"], *hooks]
    return {**cfg, "log_level": "INFO"}
