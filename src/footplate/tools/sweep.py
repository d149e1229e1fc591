"""Runs a sweep: chooses settings, runs trials and stores their results in an optuna study."""

import hashlib
import itertools
import json
import math
import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from footplate.config import Config
from footplate.engine.run_checkpoints import seed_of_resumed
from footplate.engine.run_folder import locked
from footplate.error_context import located
from footplate.errors import ArgumentError, DataError, FootplateError, MissingExtraError
from footplate.first_generation.translation import is_first_generation
from footplate.hooks.metric_rules import MissingMetricError, best_metric_rules, best_metrics, rule_of
from footplate.messages import nearest
from footplate.registry.dotted_paths import executed_files
from footplate.tools.diff import START_KEYS
from footplate.tools.runs import read_run
from footplate.tools.sweep_ledger import trial_checkpoints, update_ledger
from footplate.tools.sweep_space import Parameter, check_parameters, first_values, with_values
from footplate.tools.sweep_trial import OUTPUT, Outcome, Request, TrialProcesses, run_in_process

try:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise MissingExtraError("optuna", extra="sweep", why="a sweep") from error

_NEW_FOLDER = "To start a new sweep, set --out to another folder."
_STUDY = "study.db"  # SQLite creates files next to it whose names start with this name
_TRIAL_FOLDER = re.compile(r"[0-9a-f]{12}")  # see `sha256_of`
_OWN_REASONS = frozenset({"error", "infeasible"})  # attributes of trials that failed without being interrupted
_TEXT_ATTRIBUTES = ("config", *_OWN_REASONS)
_MAX_SEED = (1 << 31) - 1


class SweepSettings(NamedTuple):
    """The settings of a sweep."""

    folder: str  # the folder of the study and of the trials' work_dirs
    metric: str  # the metric to optimize; the score of a trial is its best validation
    trials: int = 20  # the number of trials, including those of earlier starts
    workers: int = 1  # the number of parallel trials
    prune: bool = True  # whether to stop trials that are worse than the median
    retry: bool = False  # whether to rerun only the failed trials
    seed: int = 0
    keep_best: bool = False  # whether to write a ledger and keep only the checkpoints of the best trial


class TrialInfo(NamedTuple):
    """A finished trial."""

    number: int
    values: dict[str, Any]  # by key
    state: str  # "complete", "pruned", "infeasible", "failed" or "repeated"
    score: float | None  # the best metric, or the last one if the trial was stopped; None if it was not validated
    folder: str  # the work_dir
    note: str  # the reason for a failed or infeasible trial, or the trial that this trial repeats


class TrialProgress(NamedTuple):
    """The progress of a running trial."""

    number: int
    values: dict[str, Any]  # by key
    folder: str  # the work_dir
    done: int = 0  # completed iterations
    length: int | None = None  # the iterations of the run; None until they are known
    score: float | None = None  # the latest metric, None before the first validation


class _TrialFailedError(Exception):
    """Raised when a trial fails. The sweep continues."""


def sweep(
    cfg: Config,
    parameters: Sequence[Parameter],
    settings: SweepSettings,
    *,
    prepare: Callable[[Config], None] = lambda cfg: None,
    on_end: Callable[[TrialInfo], None] = lambda info: None,
    on_progress: Callable[[TrialProgress], None] = lambda progress: None,
) -> list[TrialInfo]:
    """Runs trials until the requested number is done.

    Continues an interrupted sweep: trials that were running are resumed from their checkpoints.

    Args:
        cfg: The config whose keys are varied.
        parameters: The keys to vary.
        settings: The settings of the sweep.
        prepare: Called with a trial's config in the process of the trial. Must be picklable.
        on_end: Called with each trial that ends.
        on_progress: Called with the progress when a trial starts, and repeatedly while it runs. Parallel trials call
            `on_progress` and `on_end` from their own threads.

    Returns:
        The finished trials, the best first.

    Raises:
        ArgumentError: A key is not in the config or is varied twice, it is unknown whether a higher metric is better,
            or the sweep in the folder has a different config, metric or keys.
        MissingMetricError: The first trial shows that validation does not compute the metric.
        DataError: The study in the folder is damaged.
    """
    check_parameters(cfg, parameters)  # before creating any files
    try:
        rule = best_metric_rules(cfg._cfg_dict).get(settings.metric) or rule_of(settings.metric, named_by="--metric")
    except ArgumentError as error:
        others = [name for name in best_metrics(cfg._cfg_dict) if name != settings.metric]
        error.suggestion = nearest(settings.metric, others)
        raise
    os.makedirs(settings.folder, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with locked(settings.folder):
        try:
            study = _open_study(cfg, parameters, settings, "maximize" if rule == "greater" else "minimize")
        except FootplateError:
            raise
        except Exception as error:  # optuna may raise anything for a damaged study
            raise _damaged(settings.folder) from error
        try:
            _Sweep(study, cfg, parameters, settings, prepare, on_end, on_progress).run()
        except SQLAlchemyError as error:
            raise _damaged(settings.folder) from error
        except MissingMetricError:
            if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
                # The study has the wrong metric, so it would reject the corrected command.
                optuna.delete_study(study_name="sweep", storage=_storage_of(settings.folder))
            raise
    return describe_trials(study, parameters, settings.folder)


def default_metric(cfg: Config) -> str:
    """Returns the metric that selects a config's best checkpoint.

    Raises:
        ArgumentError: The config does not set `save_best` to a metric.
    """
    name = next((each for each in best_metrics(cfg._cfg_dict) if each != "auto"), None)
    if name is None:
        raise ArgumentError("the config does not set save_best, so the metric is unknown", notes=["Add --metric NAME."])
    return name


def describe_trials(study: Any, parameters: Sequence[Parameter], folder: str) -> list[TrialInfo]:
    """Returns the finished trials of a study, the best first."""
    ended = [_describe_trial(trial, parameters, folder) for trial in _ended_trials(study)]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    order = ("complete", "repeated", "pruned", "infeasible", "failed")
    return sorted(ended, key=lambda each: (order.index(each.state), sign * (each.score or 0)))


def _ended_trials(study: Any) -> list[Any]:
    """Returns the finished trials, without interrupted trials that another trial continues."""
    continued = study.user_attrs.get("begun_anew", ())
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in continued]


def _describe_trial(trial: Any, parameters: Sequence[Parameter], folder: str) -> TrialInfo:
    attributes = trial.user_attrs
    state = {"fail": "failed"}.get(trial.state.name.lower(), trial.state.name.lower())
    note = attributes.get("error", "interrupted" if state == "failed" else "")
    if "infeasible" in attributes:
        state, note = "infeasible", attributes["infeasible"]
    elif "same_as" in attributes:
        state, note = "repeated", f"same as trial {attributes['same_as']}"
    scores = [value for value in (*trial.intermediate_values.values(), trial.value) if _is_finite(value)]
    known = {parameter.key: parameter for parameter in parameters}
    values = {key: known[key].value_of(value) if key in known else value for key, value in trial.params.items()}
    work_dir = os.path.join(folder, os.path.basename(str(attributes.get("config", ""))))  # a study may be untrusted
    return TrialInfo(trial.number, values, state, scores[-1] if scores else None, work_dir, note)


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def sha256_of(cfg: Config) -> str:
    """Returns a hash that identifies a trial's config. Equal configs have equal hashes."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in START_KEYS}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:12]


def _damaged(folder: str) -> DataError:
    return DataError(f"the {_STUDY} in '{folder}' is damaged", notes=[_NEW_FOLDER])


def _storage_of(folder: str) -> str:
    return f"sqlite:///{os.path.join(folder, _STUDY)}"


def _open_study(
    cfg: Config, parameters: Sequence[Parameter], settings: SweepSettings, direction: Literal["maximize", "minimize"]
) -> Any:
    """Opens the study in the folder of a sweep, or creates it.

    Raises:
        ArgumentError: The study belongs to a sweep with a different config, metric, keys or choices. Ranges may differ.
        DataError: The study is damaged, or a file that the sweep writes is a link.
    """
    folder, earlier = settings.folder, 0
    for name in filter(lambda name: name.startswith(_STUDY) or _TRIAL_FOLDER.fullmatch(name), os.listdir(folder)):
        for path in (os.path.join(folder, name), os.path.join(folder, name, OUTPUT)):
            if os.path.islink(path):  # an untrusted folder could redirect writes
                raise DataError(f"the sweep would write through the link '{path}'", notes=["Remove it.", _NEW_FOLDER])
    if os.path.exists(os.path.join(folder, _STUDY)):
        with suppress(KeyError):  # killed before the study was created
            study = optuna.load_study(study_name="sweep", storage=_storage_of(folder))
            earlier = len(study.get_trials(deepcopy=False))
    # The seed includes the number of earlier trials, so that a continued sweep does not repeat its choices.
    study = optuna.create_study(
        storage=_storage_of(folder),
        study_name="sweep",
        direction=direction,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=settings.seed + earlier, multivariate=False),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4) if settings.prune else optuna.pruners.NopPruner(),
    )
    seed, restarted = study.user_attrs.get("run_seed", 0), study.user_attrs.get("begun_anew", [])
    texts = [each.user_attrs.get(key, "") for each in study.get_trials(deepcopy=False) for key in _TEXT_ATTRIBUTES]
    if (
        type(seed) is not int
        or not 0 <= seed <= _MAX_SEED
        or not isinstance(restarted, list)
        or any(type(number) is not int for number in restarted)
        or any(not isinstance(text, str) for text in texts)
    ):
        raise _damaged(folder)
    varied = {each.key: repr(each.choices) if each.choices else "a range" for each in parameters}
    firsts = {**first_values(parameters), **{each.key: 0 for each in parameters if not each.choices}}
    asked = {"metric": settings.metric, "parameters": varied, "config": sha256_of(with_values(cfg, firsts))}
    before = study.user_attrs.get("asked", asked)
    if before != asked:
        described = ", ".join(f"{key}: {values}" for key, values in before["parameters"].items())
        raise ArgumentError(
            f"the sweep in '{folder}' was started with a different config, metric, keys or choices",
            key="--out",
            notes=[f"metric {before['metric']}; {described}", _NEW_FOLDER],
        )
    study.set_user_attr("asked", asked)
    describe_trials(study, parameters, folder)  # fails early on a damaged study
    return study


@dataclass
class _Sweep:
    """A running sweep."""

    study: Any
    cfg: Config
    parameters: Sequence[Parameter]
    settings: SweepSettings
    prepare: Callable[[Config], None]
    on_end: Callable[[TrialInfo], None]
    on_progress: Callable[[TrialProgress], None]
    processes: TrialProcesses = field(default_factory=TrialProcesses)
    ledger_lock: threading.Lock = field(default_factory=threading.Lock)  # parallel trials end in their own threads

    def run(self) -> None:
        if "run_seed" not in self.study.user_attrs:  # the seed that all trials share
            self.study.set_user_attr("run_seed", int.from_bytes(os.urandom(4), "little") & _MAX_SEED)
        again = self._unfinished_trials()
        for trial in again:
            self.study.enqueue_trial(trial.params, skip_if_exists=False)
        if self.settings.retry:
            count = len(again)
        else:
            count = self.settings.trials - len(_ended_trials(self.study))
            if all(parameter.choices for parameter in self.parameters):
                waiting = (optuna.trial.TrialState.WAITING,)
                for chosen in itertools.product(*(range(len(parameter.choices)) for parameter in self.parameters)):
                    if len(self.study.get_trials(deepcopy=False, states=waiting)) >= count:
                        break
                    values = {each.key: index for each, index in zip(self.parameters, chosen, strict=True)}
                    self.study.enqueue_trial(values, skip_if_exists=True)  # unless the values were already tried
                count = min(count, len(self.study.get_trials(deepcopy=False, states=waiting)))
        if count <= 0:
            self._update_ledger()
            return
        ask, lock = self.study.ask, threading.Lock()

        def ask_alone(*arguments: Any, **options: Any) -> Any:
            with lock:  # without it, two threads could get the same waiting trial from SQLite
                return ask(*arguments, **options)

        def report(study: Any, trial: Any) -> None:
            self.on_end(_describe_trial(trial, self.parameters, self.settings.folder))
            self._update_ledger()

        self.study.ask = ask_alone
        with self.processes.handling_interrupts():
            self.study.optimize(
                self._objective,
                n_trials=count,
                n_jobs=self.settings.workers,
                catch=(_TrialFailedError,),
                callbacks=[report],
            )

    def _update_ledger(self) -> None:
        """Updates the ledger if the sweep has one."""
        if not self.settings.keep_best:
            return
        folder, running = self.settings.folder, (optuna.trial.TrialState.RUNNING,)
        with self.ledger_lock:
            trials = describe_trials(self.study, self.parameters, folder)
            busy = [trial.user_attrs.get("config", "") for trial in self.study.get_trials(states=running)]
            update_ledger(
                folder,
                self.settings.metric,
                trials,
                cfg=self.cfg._cfg_dict,
                in_use={os.path.join(folder, name) for name in busy},
            )

    def _unfinished_trials(self) -> list[Any]:
        """Returns the trials to rerun: the interrupted ones or, with `retry`, the failed ones."""
        states = optuna.trial.TrialState
        running = self.study.get_trials(states=(states.RUNNING,))  # the sweep's process was killed
        failed = self.study.get_trials(states=(states.FAIL,))
        stopped = [trial for trial in failed if not _OWN_REASONS & {*trial.user_attrs}]
        for trial in running:
            self.study.tell(trial.number, state=states.FAIL)
        restarted = self.study.user_attrs.get("begun_anew", [])
        left = [trial for trial in (*running, *stopped) if trial.number not in restarted]
        self.study.set_user_attr("begun_anew", [*restarted, *(trial.number for trial in left)])
        if not self.settings.retry:
            return left
        failed = [trial for trial in self.study.get_trials(states=(states.FAIL,)) if "error" in trial.user_attrs]
        done = {trial.user_attrs.get("config") for trial in self.study.get_trials(states=(states.COMPLETE,))}
        latest = {trial.user_attrs.get("config"): trial for trial in failed}
        return [trial for config, trial in latest.items() if config not in done]

    def _objective(self, trial: Any) -> float:
        """Returns the best score of a trial. Runs it, unless a complete trial had the same config."""
        values = {parameter.key: parameter.suggest(trial) for parameter in self.parameters}
        cfg = with_values(self.cfg, values)
        digest = sha256_of(cfg)
        trial.set_user_attr("config", digest)
        for other in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
            if other.user_attrs.get("config") == digest:
                trial.set_user_attr("same_as", other.number)
                return float(other.value)
        progress = TrialProgress(trial.number, values, os.path.join(self.settings.folder, digest))
        scores, (kind, reason) = self._run_trial(trial, cfg, progress)
        if kind == "interrupted":
            raise KeyboardInterrupt
        if isinstance(reason, MissingMetricError):
            trial.set_user_attr("error", reason.message)
            if self.settings.metric in best_metrics(self.cfg._cfg_dict):
                first = is_first_generation(self.cfg)
                reason.key = "evaluation.save_best" if first else "default_hooks.checkpoint.save_best"
            reason.origin = None  # the trial's config has no origins
            with located(self.cfg):
                raise reason
        if kind == "infeasible":
            trial.set_user_attr("infeasible", reason)
            raise optuna.TrialPruned(reason)
        if kind == "pruned":
            raise optuna.TrialPruned
        finite = [score for score in scores if _is_finite(score)]
        if kind == "failed" or not finite:
            none = "the metric is NaN or infinite in every validation" if scores else "the run has no validation"
            trial.set_user_attr("error", reason or none)
            raise _TrialFailedError(reason)
        best = max if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else min
        return float(best(finite))

    def _run_trial(self, trial: Any, cfg: Config, progress: TrialProgress) -> tuple[list[float], Outcome]:
        """Runs a trial in its own process, and returns its validation results and its outcome."""
        folder, metric = progress.folder, self.settings.metric
        os.makedirs(folder, exist_ok=True)
        self.on_progress(progress)
        cfg["work_dir"], cfg["resume"] = folder, bool(trial_checkpoints(cfg._cfg_dict, folder))
        before = seed_of_resumed(folder, None, cfg["resume"])  # the seed of a resumed trial may differ from the study's
        seed = self.study.user_attrs["run_seed"] if before is None else before
        # Trials without their own seed share one, so that they differ only in their settings. The hash excludes it.
        randomness = cfg.get("randomness") or {}
        if is_first_generation(cfg):
            cfg["seed"] = seed if cfg.get("seed") is None else cfg["seed"]
        elif randomness.get("seed") is None:
            cfg["randomness"] = {**randomness, "seed": seed}
        threads = max(1, (os.cpu_count() or 1) // self.settings.workers) if self.settings.workers > 1 else 0
        cfg["preflight"] = cfg.get("preflight", True)  # detects a missing metric before the first iteration
        scores, outcome = run_in_process(
            Request(cfg._cfg_dict, metric, threads, self.prepare, executed_files()),
            trial,
            lambda **changes: self.on_progress(progress._replace(**changes)),
            self.processes,
        )
        if cfg["resume"]:  # include validations before the interruption; the run may have been complete
            with suppress(DataError):
                series = read_run(folder).find(metric, "val")
                scores = [*(value for _, value in series.points), *scores] if series else scores
        return scores, outcome
