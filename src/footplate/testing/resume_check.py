"""Checks whether a run that is killed and resumed equals an uninterrupted one."""

import logging
import multiprocessing
import os
import pickle
import random
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from footplate.checks import check_count, check_number
from footplate.data.rng import seed_generators
from footplate.engine import Runner
from footplate.errors import ArgumentError, FootplateError
from footplate.hooks import CheckpointHook
from footplate.interrupts import raising_stop_signals
from footplate.launchers import is_launched
from footplate.messages import list_names, pluralize
from footplate.testing.comparison import (
    Difference,
    find_difference,
    find_lost_attributes,
    find_noise,
)
from footplate.testing.recording import BatchRecorder, StateRecorder, Trace

Build = Callable[[str], Runner]
_PHASES = ("step", "validation", "save")
_SAVE_INTERVAL = 2  # iterations
_MAX_LINES = 4  # of the output of a failed run, which ends with the error
_MAX_NAMES = 6
_logger = logging.getLogger("footplate.testing")


class RunsDifferError(FootplateError):
    """Two runs that should be equal differ. `difference` is the first difference, with its cause."""

    def __init__(self, message: str, difference: Difference, notes: Sequence[str] = ()) -> None:
        lines = [f"first difference: {difference.what}"]
        if difference.causes:
            lines.append(f"not restored: {list_names([f'`{each}`' for each in difference.causes], _MAX_NAMES)}")
        super().__init__(message, notes=[*notes, *lines, difference.remedy])
        self.difference = difference


class ResumeReport(NamedTuple):
    """The result of a check that found no difference.

    Attributes:
        kills: Where the run was killed.
        iterations: The number of iterations.
        lost: Attributes that a resumed run does not restore, without an effect on the results.
    """

    kills: Sequence[str]
    iterations: int
    lost: Sequence[str]

    def __str__(self) -> str:
        text = f"equal to the uninterrupted run over {self.iterations} iterations"
        if self.kills:
            text += f", with {pluralize(len(self.kills), 'kill')} ({', '.join(self.kills)})"
        if self.lost:
            names = list_names([f"`{each}`" for each in self.lost], _MAX_NAMES)
            text += f"; not restored, without an effect here: {names}"
        return text


def check_resume(
    build: Build,
    *,
    kills: int = 3,
    seed: int = 0,
    processes: int = 1,
    timeout: float = 600.0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> ResumeReport:
    """Checks whether a run that is killed with SIGKILL and resumed equals an uninterrupted one.

    Trains twice without interruption, and once with kills at random instants: in a step, in a validation and in a save.
    Compares the samples and their augmented content, the weights and buffers, the random generators, the losses, the
    metrics and everything in the checkpoints. Saves every second iteration. Nothing remains on disk.

    Args:
        build: A function at the top level of a module that takes a work_dir and returns the Runner of a short run, with
            `resume="auto"`, a seed and no trackers. The run needs two epochs to show whether the order of the data is
            restored.
        kills: The number of kills.
        seed: The seed of the instants.
        processes: The number of processes that train together.
        timeout: The maximum time in seconds.
        on_stage: Called with what happens next.

    Raises:
        RunsDifferError: The resumed run differs, or the uninterrupted runs differ already.
        FootplateError: A run failed, or the time was not enough.

    Example:
        >>> def build(work_dir):  # doctest: +SKIP
        ...     return Runner(MyModel(), work_dir, loader, max_epochs=2, resume="auto", randomness=dict(seed=0))
        >>> def test_training_resumes_exactly():  # doctest: +SKIP
        ...     check_resume(build)
    """
    check_count("kills", kills)
    check_count("processes", processes)
    check_number("timeout", timeout, above=0)
    with _trials(timeout) as trials:
        on_stage("Training without interruption")
        whole = trials.run(build, "whole", processes)
        on_stage("Training without interruption once more")
        again = trials.run(build, "again", processes)
        noise = [find_noise(*pair) for pair in zip(whole.traces, again.traces, strict=True)]
        _compare(whole, again, noise, "Two uninterrupted runs differ, so a resumed run cannot be compared with them")
        killed, lost = list[str](), dict[str, None]()
        for instant in [*_instants(whole.timeline, kills, random.Random(seed)), None]:
            what = (
                f"Killing the run {_describe(*instant)}, and resuming it" if instant else "Resuming the run to its end"
            )
            on_stage(what)
            outcome = trials.run(build, "killed", processes, instant)
            _compare(whole, outcome, noise, "The resumed run differs from the uninterrupted one", killed)
            for one, other, ignored in zip(whole.traces, outcome.traces, noise, strict=True):
                lost |= dict.fromkeys(find_lost_attributes(one, other, ignored))
            if outcome.is_complete:
                break
            killed.append(_describe(*outcome.timeline[-1]))
        return ResumeReport(killed, max((iteration for _, iteration, _ in whole.timeline), default=0), [*lost])


def compare_runs(first: Build, second: Build, *, processes: int | tuple[int, int] = 1, timeout: float = 600.0) -> None:
    """Checks whether two uninterrupted runs are equal, such as one without workers and one with two.

    Args:
        first: As for `check_resume`. Use `functools.partial` to build two variants with one function.
        second: The other run.
        processes: The number of processes that train a run together. With a different number for each run, such as
            `(1, 2)`, only the samples of each iteration and validation are compared, because losses and weights agree
            only up to rounding. The total batch size must be the same.
        timeout: The maximum time in seconds.

    Raises:
        RunsDifferError: The runs differ.
        FootplateError: A run failed, or the time was not enough.
    """
    counts = (processes, processes) if isinstance(processes, int) else processes
    with _trials(timeout) as trials:
        one, other = (trials.run(*run) for run in zip((first, second), ("first", "second"), counts, strict=True))
        if counts[0] != counts[1]:
            one, other = (outcome._replace(traces=[Trace.of_all(outcome.traces)]) for outcome in (one, other))
        noise = [find_noise(*pair) for pair in zip(one.traces, other.traces, strict=True)]
        _compare(one, other, noise, "The runs differ")


class _Outcome(NamedTuple):
    """What is known of the processes of a run.

    Attributes:
        traces: The records of each process.
        timeline: The phases of the first process: name, iteration and the time at which it began.
        is_complete: Whether the run ended by itself.
    """

    traces: list[Trace]
    timeline: list[tuple[str, int, float]]
    is_complete: bool


def _compare(
    expected: _Outcome, outcome: _Outcome, noise: Sequence[Any], message: str, kills: Sequence[str] = ()
) -> None:
    """Raises RunsDifferError if the traces of a process differ."""
    for one, other, ignored in zip(expected.traces, outcome.traces, noise, strict=True):
        difference = find_difference(one, other, ignored)
        if difference is not None:
            raise RunsDifferError(message, difference, [f"killed: {text}" for text in kills[-1:]])


def _instants(
    timeline: Sequence[tuple[str, int, float]], kills: int, draw: random.Random
) -> Iterator[tuple[str, int, float]]:
    """Yields where to kill a run, in order: the phase, the iteration, and how many seconds after the phase began."""
    phases = [phase for phase in _PHASES if any(phase == each for each, _, _ in timeline)]
    draw.shuffle(phases)
    chosen = [phases[number % len(phases)] for number in range(kills)]
    last = max(iteration for _, iteration, _ in timeline)
    begin = 0
    for number, phase in enumerate(chosen):
        least = max(begin + 1, round(last * (number + draw.random()) / kills))
        ends = zip(timeline, timeline[1:], strict=False)
        lengths = {(name, at): end - start for (name, at, start), (_, _, end) in ends if name == phase and at >= least}
        if lengths:
            (_, begin), length = next(iter(lengths.items()))
            yield phase, begin, draw.random() * length


def _describe(phase: str, iteration: int, _: float) -> str:
    return f"in the {phase} {'of' if phase == 'step' else 'after'} iteration {iteration}"


@contextmanager
def _trials(timeout: float) -> Iterator["_Trials"]:
    folder = tempfile.TemporaryDirectory(prefix="footplate-resume-", ignore_cleanup_errors=True)
    with raising_stop_signals(not is_launched()), folder as path:
        yield _Trials(Path(path), monotonic() + timeout)


class _Trials:
    """Runs that train in processes of their own, until a deadline."""

    def __init__(self, folder: Path, deadline: float) -> None:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            raise ArgumentError("Checking a resume needs processes that can be forked, which Windows does not have")
        self._folder = folder
        self._deadline = deadline
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])  # so that each process starts fast
        self._count = 0

    def run(self, build: Build, name: str, processes: int, kill: tuple[str, int, float] | None = None) -> _Outcome:
        """Trains in the work_dir `name`, and kills the processes at an instant, if one is given.

        Raises:
            FootplateError: A process failed, or the time was not enough.
        """
        self._count += 1
        places = [self._folder / f"records-{self._count}-{rank}" for rank in range(processes)]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        pipes = [self._context.Pipe(duplex=False) for _ in places]
        started = []
        for rank, place in enumerate(places):
            place.mkdir()
            (place / "output").touch()
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            environment = {**variables, **{key: str(value) for key, value in ranks.items()}} if processes > 1 else {}
            method = multiprocessing.get_start_method()  # of the workers, as without a check
            work = (self._pickled(build), str(self._folder / name), place, pipes[rank][1], environment, method)
            started.append(self._context.Process(target=_train, args=work))
        try:
            for process, (_, sender) in zip(started, pipes, strict=True):
                process.start()
                sender.close()
            timeline = self._watch(started, pipes[0][0], kill)
        finally:
            for process in started:
                if process.pid is not None:
                    process.kill()
                    process.join()
        codes = [process.exitcode for process in started]
        # The other ranks may notice that one is gone, and fail before they are killed.
        is_killed = kill is not None and -signal.SIGKILL in codes
        if any(codes) and not is_killed:
            rank = next(rank for rank, code in enumerate(codes) if code != 0)
            lines = (places[rank] / "output").read_text(errors="replace").splitlines()[-_MAX_LINES:]
            raise FootplateError(f"A run of the check failed (exit code {codes[rank]})", notes=lines)
        return _Outcome([Trace.read(place) for place in places], timeline, not any(codes))

    @staticmethod
    def _pickled(build: Build) -> bytes:
        try:
            return pickle.dumps(build)
        except Exception as error:
            raise ArgumentError(
                "Other processes cannot import `build`",
                found=build,
                notes=["Define it at the top level of a module."],
            ) from error

    def _watch(
        self, processes: Sequence[Any], reports: Connection, kill: tuple[str, int, float] | None
    ) -> list[tuple[str, int, float]]:
        """Waits for the end of a run, or kills it at an instant. Returns the phases that it reported."""
        timeline: list[tuple[str, int, float]] = []
        while True:
            alive = [each.sentinel for each in processes if each.exitcode is None]
            ready = wait([reports, *alive], max(0.0, self._deadline - monotonic()))
            if not ready:
                raise FootplateError(
                    "The time for the check was not enough", notes=["Use a shorter run, or allow more time."]
                )
            if reports in ready:
                try:
                    phase, iteration = reports.recv()
                except EOFError:
                    for process in processes:
                        process.join(max(0.0, self._deadline - monotonic()))
                    return timeline
                timeline.append((phase, iteration, monotonic()))
                if kill is not None and (phase, iteration) == kill[:2]:
                    sleep(kill[2])
                    for process in processes:
                        process.kill()
                    for process in processes:
                        process.join()
                    while reports.poll():  # what it did meanwhile
                        with suppress(EOFError):
                            timeline.append((*reports.recv(), monotonic()))
                            continue
                        break
                    return timeline
            elif any(process.exitcode for process in processes):
                return timeline  # a rank that failed, for which the others would wait


def _train(
    build: bytes, work_dir: str, place: Path, reports: Connection, environment: dict[str, str], method: str
) -> None:
    """Trains in this process, and records what happens in the folder `place`."""
    os.environ.update(environment)
    multiprocessing.set_start_method(method, force=True)
    output = os.open(place / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    try:
        seed_generators(0)  # for weights that are initialized before there is a Runner
        runner = pickle.loads(build)(work_dir)
        if not isinstance(runner, Runner):
            raise ArgumentError("`build` must return a Runner", found=runner)
        if not runner.resume_plan.resume:
            raise ArgumentError("`build` must return a Runner that resumes", notes=['Pass `resume="auto"`.'])
        _save_often(runner)
        report = reports.send if runner.rank == 0 else (lambda phase: None)  # nobody reads those of other ranks
        for kind in (BatchRecorder, StateRecorder):
            runner.register_hook(kind(place, report))
        runner.train()
    except FootplateError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _save_often(runner: Runner) -> None:
    """Makes the checkpoint hooks of a run save every second iteration."""
    saving = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    if not saving:
        saving = [CheckpointHook()]
        runner.register_hook(saving[0])
    for hook in saving:
        hook.by_epoch, hook.interval, hook.save_begin = False, _SAVE_INTERVAL, 0
        hook.filename_tmpl, hook.max_keep_ckpts, hook.out_dir = "iter_{}.pth", _SAVE_INTERVAL, None
