"""Runs a sweep: optuna chooses settings, and `footplate train --json` runs each trial in a process of its own."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config
from footplate.engine.run_folder import locked
from footplate.errors import ArgumentError, DataError, MissingExtraError
from footplate.hooks.metric_rules import (
    MissingMetricError,
    UnknownRuleError,
    best_metric_rules,
    best_metrics,
    find_rule,
)
from footplate.messages import nearest
from footplate.records.logger import print_urgent
from footplate.tools.diff import START_KEYS
from footplate.tools.failing_module import is_out_of_memory
from footplate.tools.runs import read_run
from footplate.tools.sweep_space import Parameter, check_parameters, first_values, with_values

try:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise MissingExtraError("optuna", extra="sweep", why="a sweep") from error

OUTPUT, _RESULT = "output.txt", "result.json"  # the output of a trial, in its folder
_NEW_FOLDER = "To start a new sweep, set --out to another folder."
_POLL_INTERVAL = 0.5  # seconds
_States = optuna.trial.TrialState


class SweepSettings(NamedTuple):
    """The settings of a sweep."""

    folder: str  # the folder of the study and of the trials' work_dirs
    metric: str  # the metric to optimize; the score of a trial is its best validation
    trials: int = 20  # the number of trials, including those of earlier starts
    workers: int = 1  # the number of parallel trials
    prune: bool = True  # whether to stop trials that are worse than the median
    retry: bool = False  # whether to rerun only the failed trials
    seed: int = 0


class TrialInfo(NamedTuple):
    """A trial that has started or ended."""

    number: int
    values: dict[str, Any]  # by key
    state: str  # "running", "complete", "pruned", "infeasible" or "failed"
    score: float | None  # the best metric, or the last one if the trial was stopped; None if it was not validated
    folder: str  # the work_dir
    note: str  # the reason for a failed or infeasible trial


@dataclass
class _RunningTrial:
    """A trial whose process runs."""

    trial: Any  # of optuna
    folder: str  # the work_dir
    process: "subprocess.Popen[bytes]"
    scores: dict[int, float] = field(default_factory=dict)  # by iteration
    size: int = 0  # of the scalars that were read
    is_pruned: bool = False

    def failure(self) -> tuple[str, str]:
        """Returns the type and the message of the error with which the process ended."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # killed
            error = json.loads(Path(self.folder, _RESULT).read_text())["error"]
            return error["type"], error["message"]
        return "", f"the process ended with exit code {self.process.returncode}"


def sweep(
    cfg: Config,
    parameters: Sequence[Parameter],
    settings: SweepSettings,
    command: Callable[[Mapping[str, Any]], list[str]],
    *,
    on_change: Callable[[TrialInfo], None] = lambda info: None,
) -> list[TrialInfo]:
    """Runs trials until the requested number is done.

    Continues an interrupted sweep: trials that were running are resumed from their checkpoints.

    Args:
        cfg: The config whose keys are varied.
        parameters: The keys to vary.
        settings: The settings of the sweep.
        command: Returns the command that trains with the given values. The sweep adds options of `footplate train`.
        on_change: Called with each trial that starts or ends.

    Returns:
        The finished trials, the best first.

    Raises:
        ArgumentError: A key is not in the config or is varied twice, it is unknown whether a higher metric is better,
            or the sweep in the folder has a different config, metric or keys.
        MissingMetricError: The first validation of a trial does not contain the metric.
        DataError: The study in the folder is damaged.
    """
    check_parameters(cfg, parameters)  # before creating any files
    rule = best_metric_rules(cfg._cfg_dict).get(settings.metric) or find_rule(settings.metric)
    if rule is None:
        error = UnknownRuleError(settings.metric, "--metric")
        error.suggestion = nearest(settings.metric, best_metrics(cfg._cfg_dict))
        raise error
    os.makedirs(settings.folder, exist_ok=True)
    with locked(settings.folder):
        running = _Sweep(cfg, parameters, settings, command, on_change, is_maximized=rule == "greater")
        running.run()
        return running.describe_trials()


def default_metric(cfg: Config) -> str:
    """Returns the metric that selects a config's best checkpoint.

    Raises:
        ArgumentError: The config does not set `save_best` to a metric.
    """
    name = next((metric for metric in best_metrics(cfg._cfg_dict) if metric != "auto"), None)
    if name is None:
        raise ArgumentError("the config does not set save_best, so the metric is unknown", notes=["Add --metric NAME."])
    return name


def sha256_of(cfg: Config) -> str:
    """Returns a hash that identifies a trial's config. Equal configs have equal hashes."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in START_KEYS}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:12]


class _Sweep:
    """A running sweep, with its study in `study.db`.

    Raises:
        ArgumentError: The study belongs to a sweep with a different config, metric, keys or choices. Ranges may differ.
        DataError: The study is damaged.
    """

    def __init__(
        self,
        cfg: Config,
        parameters: Sequence[Parameter],
        settings: SweepSettings,
        command: Callable[[Mapping[str, Any]], list[str]],
        on_change: Callable[[TrialInfo], None],
        *,
        is_maximized: bool,
    ) -> None:
        self.cfg, self.settings, self.command, self.on_change = cfg, settings, command, on_change
        self.parameters = {parameter.key: parameter for parameter in parameters}
        self.is_maximized = is_maximized
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.storage = f"sqlite:///{os.path.join(settings.folder, 'study.db')}"
        try:
            self.study = optuna.create_study(
                storage=self.storage,
                study_name="sweep",
                direction="maximize" if is_maximized else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4)
                if settings.prune
                else optuna.pruners.NopPruner(),
            )
            # The seed includes the number of earlier trials, so that a continued sweep does not repeat its choices.
            self.study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(self._trials()))
            before = self.study.user_attrs.get("asked")
        except SQLAlchemyError as error:
            message = f"the study.db in '{settings.folder}' is damaged"
            raise DataError(message, notes=[_NEW_FOLDER]) from error
        fixed = {key: 0 for key, parameter in self.parameters.items() if not parameter.choices}  # ranges may change
        asked = {
            "metric": settings.metric,
            "parameters": {key: repr(parameter.choices) for key, parameter in self.parameters.items()},
            "config": sha256_of(with_values(cfg, first_values(parameters) | fixed)),
        }
        if before not in (None, asked):
            raise ArgumentError(
                f"the sweep in '{settings.folder}' was started with a different config, metric, keys or choices",
                key="--out",
                notes=[
                    f"Its metric is {before['metric']}, its keys are {', '.join(before['parameters'])}.",
                    _NEW_FOLDER,
                ],
            )
        self.study.set_user_attr("asked", asked)

    def run(self) -> None:
        """Starts, watches and ends trials. An interrupt ends them like an interrupted run: they save and exit."""
        left, running = self._enqueue(), list[_RunningTrial]()
        try:
            while left > 0 or running:
                while left > 0 and len(running) < self.settings.workers:
                    left -= 1
                    running.append(self._start())
                time.sleep(_POLL_INTERVAL)
                for trial in list(running):
                    code = trial.process.poll()  # before the last scores are read
                    self._watch(trial)
                    if code is not None:
                        running.remove(trial)
                        self._end(trial, code)
        except MissingMetricError:
            if not self._trials(_States.COMPLETE):
                # The study has the wrong metric, so it would reject the corrected command.
                optuna.delete_study(study_name="sweep", storage=self.storage)
            raise
        finally:
            if running:
                print_urgent("running trials finish their iterations and save; interrupt again to exit at once")
            try:
                for trial in running:
                    trial.process.terminate()
                for trial in running:
                    trial.process.wait()
            finally:  # interrupted again
                for trial in running:
                    trial.process.kill()

    def _enqueue(self) -> int:
        """Enqueues the trials whose values are known, and returns the number of trials to run."""
        again = self._trials(_States.RUNNING)  # the sweep was interrupted or killed
        for trial in again:
            self.study.tell(trial.number, state=_States.FAIL)
        ended = self._ended_trials()
        if self.settings.retry:
            complete = {trial.user_attrs["config"] for trial in ended if trial.state == _States.COMPLETE}
            failed = {trial.user_attrs["config"]: trial for trial in ended if trial.state == _States.FAIL}
            again += [trial for config, trial in failed.items() if config not in complete]
        for trial in again:
            self.study.enqueue_trial(trial.params)
        if self.settings.retry:
            return len(again)
        left = self.settings.trials - len(ended)
        if not all(parameter.choices for parameter in self.parameters.values()):
            return left
        for indices in itertools.product(*(range(len(parameter.choices)) for parameter in self.parameters.values())):
            if len(self._trials(_States.WAITING)) >= left:
                break
            self.study.enqueue_trial(dict(zip(self.parameters, indices, strict=True)), skip_if_exists=True)
        return min(left, len(self._trials(_States.WAITING)))

    def _trials(self, *states: Any) -> list[Any]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _ended_trials(self) -> list[Any]:
        """Returns the finished trials, without interrupted trials, which another trial continues."""
        ended = self._trials(_States.COMPLETE, _States.PRUNED, _States.FAIL)
        return [trial for trial in ended if trial.state != _States.FAIL or "note" in trial.user_attrs]

    def _start(self) -> _RunningTrial:
        """Starts the next trial. One with the config of an earlier trial continues the run of that trial."""
        trial = self.study.ask()
        values = {key: parameter.suggest(trial) for key, parameter in self.parameters.items()}
        digest = sha256_of(with_values(self.cfg, values))
        trial.set_user_attr("config", digest)
        folder = os.path.join(self.settings.folder, digest)
        command = [*self.command(values), "--work-dir", folder, "--json"]
        command += ["--resume"] if os.path.isdir(folder) else []
        environment, workers = dict(os.environ), self.settings.workers
        if workers > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, OUTPUT), "ab") as output, open(os.path.join(folder, _RESULT), "wb") as result:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=result,
                stderr=output,
                env=environment,
                start_new_session=True,  # no signal from the terminal reaches it
            )
        self.on_change(TrialInfo(trial.number, values, "running", None, folder, ""))
        return _RunningTrial(trial, folder, process)

    def _watch(self, running: _RunningTrial) -> None:
        """Reports the validations of a trial, and stops it if it is worse than the others.

        Raises:
            MissingMetricError: The validation does not compute the metric.
        """
        size = sum(file.stat().st_size for file in Path(running.folder).glob("*/vis_data/scalars.json"))
        if size == running.size:  # the run has logged nothing new
            return
        running.size, run = size, read_run(running.folder)
        series = run.find(self.settings.metric, "val")
        validated = [other.name for other in run.series if other.mode == "val"]
        if series is None and validated:
            raise MissingMetricError("the sweep", self.settings.metric, validated, "--metric")
        for at, score in series.points if series else ():
            if int(at) not in running.scores:
                running.trial.report(score, int(at))
            running.scores[int(at)] = score
        if not running.is_pruned and running.process.returncode is None and running.trial.should_prune():
            running.is_pruned = True
            running.process.terminate()

    def _end(self, running: _RunningTrial, code: int) -> None:
        """Records the result of a trial whose process has ended."""
        trial, scores = running.trial, running.scores.values()
        kind, message = running.failure() if code else ("", "")
        state, note, score = _States.COMPLETE, "", None
        if running.is_pruned:
            state = _States.PRUNED
        elif code == -signal.SIGKILL:
            state, note = _States.PRUNED, "killed, most likely because memory ran out"
        elif kind in ("MemoryError", "OutOfMemoryError") or is_out_of_memory(RuntimeError(message)):
            state, note = _States.PRUNED, "out of memory"
        elif kind == "KeyboardInterrupt" or code in (-signal.SIGTERM, -signal.SIGINT):
            return  # the next start of the sweep continues it
        elif code:
            state, note = _States.FAIL, f"{kind}: {message}" if kind else message
        elif not scores:
            state, note = _States.FAIL, "the run has no validation, or the metric is NaN or infinite in every one"
        else:
            score = (max if self.is_maximized else min)(scores)
        if note:
            trial.set_user_attr("note", note)
        self.study.tell(trial, score, state=state)
        self.on_change(next(info for info in self.describe_trials() if info.number == trial.number))

    def describe_trials(self) -> list[TrialInfo]:
        """Returns the finished trials of the study, the best first."""
        infos = []
        for trial in self._ended_trials():
            state, note = trial.state.name.lower(), trial.user_attrs.get("note", "")
            if note:
                state = "failed" if state == "fail" else "infeasible"
            scores = [score for score in (*trial.intermediate_values.values(), trial.value) if score is not None]
            values = {key: self.parameters[key].value_of(value) for key, value in trial.params.items()}
            folder = os.path.join(self.settings.folder, trial.user_attrs["config"])
            infos.append(TrialInfo(trial.number, values, state, scores[-1] if scores else None, folder, note))
        sign = -1 if self.is_maximized else 1
        order = ("complete", "pruned", "infeasible", "failed")
        return sorted(infos, key=lambda info: (order.index(info.state), sign * (info.score or 0)))
