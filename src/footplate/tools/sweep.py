"""Runs a sweep: optuna chooses settings, and `footplate train --json` runs each trial in a separate process."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config
from footplate.engine.run_folder import locked
from footplate.errors import DataError, MissingExtraError
from footplate.hooks.monitored_metrics import UnknownRuleError
from footplate.messages import first_line, nearest
from footplate.metric_names import MissingMetricError, find_metric, find_rule, metric_of_label
from footplate.records.logger import print_urgent
from footplate.tools.analysis import best_metrics
from footplate.tools.failing_module import is_out_of_memory
from footplate.tools.run_files import START_KEYS
from footplate.tools.runs import read_run
from footplate.tools.sweep_space import Parameter, check_parameters, with_values

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise MissingExtraError("optuna", extra="sweep", why="a sweep") from error

OUTPUT, _RESULT = "output.txt", "result.json"  # the output of a trial, in its folder
_PROGRAM = [sys.executable, "-m", "footplate"]
_POLL_INTERVAL = 0.5  # seconds
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class TrialInfo(NamedTuple):
    """A trial that has started or ended."""

    number: int
    values: dict[str, Any]  # by key
    state: str  # "running", "complete", "pruned", "infeasible" or "failed"
    score: float | None  # the best value of the metric, or the last value of a stopped trial; None without validation
    folder: str  # the work_dir
    note: str  # the reason for a failed or infeasible trial


@dataclass
class Sweep:
    """Trains a config with different settings, chosen by optuna, and compares their scores.

    The folder contains the optuna study and the work_dir of each trial. The name of a work_dir is the hash of the
    trial's config. If the config, the metric, the keys or the choices change, a new study is started in the same file.
    """

    cfg: Config
    parameters: Sequence[Parameter]  # the keys to vary
    command: Callable[[Mapping[str, Any]], list[str]]  # returns CLI arguments for training with values
    folder: str
    metric: str  # the score of a trial is the best validation value of this metric
    trials: int = 20  # including those of earlier starts
    workers: int = 1  # the number of parallel trials
    prune: bool = True  # whether to stop trials that are worse than the median
    seed: int = 0
    on_change: Callable[[TrialInfo], None] = lambda info: None  # called in the thread of a starting or ended trial

    def __post_init__(self) -> None:
        self._study: Any = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_stopping = False
        self._lock = threading.Lock()

    def run(self) -> list[TrialInfo]:
        """Runs trials until the requested number is reached. Also reruns interrupted and failed trials.

        Returns:
            The finished trials, best first.

        Raises:
            ArgumentError: A key is varied twice or has no effect, or it is unknown whether a higher metric is better.
            OverrideError: A key is not in the config, or a choice has the wrong type.
            MissingMetricError: The first validation run on the metric's dataset does not compute the metric.
            DataError: The study in the folder cannot be opened.
        """
        check_parameters(self.cfg, self.parameters)  # before creating any files
        metrics = best_metrics(self.cfg._cfg_dict)
        rule = metrics.get(self.metric) or find_rule(self.metric)
        if rule is None:
            error = UnknownRuleError(self.metric, "--metric")
            error.suggestion = nearest(self.metric, metrics)
            keys = "default_hooks.checkpoint.save_best to this metric, and default_hooks.checkpoint.rule"
            error.notes = (f"In the config, set {keys} to 'greater' or 'less'.",)
            raise error
        os.makedirs(self.folder, exist_ok=True)
        with locked(self.folder):
            self._is_maximized = rule == "greater"
            self._study = self._open_study()
            with ThreadPoolExecutor(self.workers) as pool:
                try:
                    for ended in as_completed([pool.submit(self._run_trial) for _ in range(self._enqueue())]):
                        ended.result()
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        print_urgent("running trials finish their iterations and save; interrupt again to exit at once")
                    self._is_stopping = True
                    try:
                        pool.shutdown(cancel_futures=True)
                    finally:  # interrupted again
                        for process in self._processes:
                            process.kill()
                    raise
            return self._describe_trials()

    def _open_study(self) -> Any:
        choices = [(each.key, () if each.is_range else each.values) for each in self.parameters]  # ranges may change
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{os.path.join(self.folder, 'study.db')}",
                study_name=_hash({"config": _hash(self.cfg.to_dict()), "metric": self.metric, "choices": choices}),
                direction="maximize" if self._is_maximized else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4) if self.prune else optuna.pruners.NopPruner(),
            )
            # The seed includes the number of earlier trials, so that a continued sweep does not repeat its choices.
            study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(study.trials))
        except SQLAlchemyError as error:
            notes = ["To start a new sweep, set --out to another folder."]
            raise DataError(f"cannot open study.db in '{self.folder}': {first_line(error)}", notes=notes) from error
        return study

    def _enqueue(self) -> int:
        """Enqueues failed trials and grid points, whose values are known. Returns the number of trials to run."""
        for trial in self._trials(TrialState.RUNNING):  # the sweep was interrupted or killed
            self._study.tell(trial.number, state=TrialState.FAIL)
        ended = self._ended_trials()
        failed = [trial for trial in ended if trial.state == TrialState.FAIL]
        for trial in failed:
            self._study.enqueue_trial(trial.params)
        left = max(self.trials - len(ended) + len(failed), 0)
        if any(parameter.is_range for parameter in self.parameters):
            return left
        keys = [parameter.key for parameter in self.parameters]
        grid = itertools.product(*(range(len(parameter.values)) for parameter in self.parameters))
        for indices in itertools.islice(grid, self.trials):
            self._study.enqueue_trial(dict(zip(keys, indices, strict=True)), skip_if_exists=True)
        return min(left, len(self._trials(TrialState.WAITING)))

    def _trials(self, *states: TrialState) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False, states=states))

    def _ended_trials(self) -> list[Any]:
        """Returns the trials that have ended. Omits a failed trial if a later trial has the same config."""
        ended = [trial for trial in self._trials(*_STATES) if "config" in trial.user_attrs]
        last = {trial.user_attrs["config"]: trial for trial in ended}
        return [trial for trial in ended if trial.state != TrialState.FAIL or trial is last[trial.user_attrs["config"]]]

    def _run_trial(self) -> None:
        """Runs the next trial. If an earlier trial had the same config, resumes that trial's run."""
        with self._lock:  # otherwise, two threads may get the same enqueued trial
            trial = self._study.ask()
        values = {parameter.key: parameter.suggest(trial) for parameter in self.parameters}
        config = _hash(with_values(self.cfg, values).to_dict())
        trial.set_user_attr("config", config)
        folder = os.path.join(self.folder, config)
        command = [*_PROGRAM, *self.command(values), "--work-dir", folder, "--json"]
        command += ["--resume"] if os.path.isdir(folder) else []
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.workers))} if self.workers > 1 else {}
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, OUTPUT), "ab") as output, open(os.path.join(folder, _RESULT), "wb") as result:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=result,
                stderr=output,
                env={**os.environ, **threads},
                start_new_session=True,  # signals from the terminal do not reach it
            )
        self._processes.append(process)
        self.on_change(TrialInfo(trial.number, values, "running", None, folder, ""))
        scores: dict[int, float] = {}  # by iteration
        code, size, is_pruned, is_signaled = None, 0, False, False
        try:
            while code is None:
                time.sleep(_POLL_INTERVAL)
                code, before = process.poll(), size  # poll before reading, so that no score is missed
                size = sum(file.stat().st_size for file in Path(folder).glob("*/vis_data/scalars.json"))
                if size != before:
                    for at, score in self._read_scores(folder):
                        if at not in scores:
                            trial.report(score, at)
                        scores[at] = score
                    is_pruned = is_pruned or (code is None and trial.should_prune())
                if (is_pruned or self._is_stopping) and not is_signaled:
                    process.terminate()  # only once, because a second signal makes the trial exit without saving
                    is_signaled = True
        finally:
            if not is_signaled:
                process.terminate()
            process.wait()
        if code and self._is_stopping:
            return  # the next start resumes the trial
        state, note = _outcome(code, folder, is_pruned=is_pruned, is_scored=bool(scores))
        if note:
            trial.set_user_attr("note", note)
        choose = max if self._is_maximized else min
        self._study.tell(trial, choose(scores.values()) if state == TrialState.COMPLETE else None, state=state)
        self.on_change(next(info for info in self._describe_trials() if info.number == trial.number))

    def _read_scores(self, folder: str) -> list[tuple[int, float]]:
        """Returns the iteration and the metric value for each validation run of a trial.

        Raises:
            MissingMetricError: Validation does not compute the metric.
        """
        try:
            run = read_run(folder)
        except DataError:  # no finite scalar yet
            return []
        validated = run.scalars("val")
        series = validated.get(find_metric(self.metric, validated))
        if series is None and validated and metric_of_label(self.metric) not in run.nonfinite:
            raise MissingMetricError("the sweep", self.metric, validated, "--metric")
        return [(int(at), score) for at, score in series.points] if series else []

    def _describe_trials(self) -> list[TrialInfo]:
        """Returns the finished trials of the study, best first."""
        infos = []
        for trial in self._ended_trials():
            note = trial.user_attrs.get("note", "")
            state = "infeasible" if note and trial.state == TrialState.PRUNED else _STATES[trial.state]
            scores = [score for score in (*trial.intermediate_values.values(), trial.value) if score is not None]
            values = {each.key: each.value_of(trial.params[each.key]) for each in self.parameters}
            folder = os.path.join(self.folder, trial.user_attrs["config"])
            infos.append(TrialInfo(trial.number, values, state, scores[-1] if scores else None, folder, note))
        sign = -1 if self._is_maximized else 1
        order = ("complete", "pruned", "infeasible", "failed")
        return sorted(infos, key=lambda info: (order.index(info.state), sign * (info.score or 0)))


def _hash(content: Mapping[str, Any]) -> str:
    """Returns a short hash of a config. Keys in `START_KEYS` do not affect it."""
    content = {key: value for key, value in content.items() if key not in START_KEYS}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:12]


def _outcome(code: int, folder: str, *, is_pruned: bool, is_scored: bool) -> tuple[TrialState, str]:
    """Returns the final state of a trial whose process has ended, and the reason for a failure."""
    kind, message = "", f"the process ended with exit code {code}"
    with suppress(ValueError, KeyError):  # it succeeded or was killed
        error = json.loads(Path(folder, _RESULT).read_text())["error"]
        kind, message = error["type"], error["message"]
    if is_pruned:
        return TrialState.PRUNED, ""
    if code == -signal.SIGKILL:
        return TrialState.PRUNED, "killed, most likely because it ran out of memory"
    if kind in ("MemoryError", "OutOfMemoryError") or is_out_of_memory(RuntimeError(message)):
        return TrialState.PRUNED, "out of memory"
    if code:
        return TrialState.FAIL, f"{kind}: {message}" if kind else message
    if not is_scored:
        return TrialState.FAIL, "the run has no validation, or the metric is NaN or infinite in every validation run"
    return TrialState.COMPLETE, ""
