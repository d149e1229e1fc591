"""Runs a sweep: chooses settings, runs trials and stores their results in an optuna study."""

import copy
import hashlib
import itertools
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from footplate.config import Config, apply_overrides, without_effect
from footplate.config.formats import write_value
from footplate.engine.run_folder import locked
from footplate.engine.sections import keys_read
from footplate.engine.state import seed_of_resumed
from footplate.error_context import located
from footplate.errors import ArgumentError, DataError, FootplateError, MissingExtraError
from footplate.first_generation.translation import is_first_generation
from footplate.hooks.metric_rules import MissingMetricError, best_metric_rules, best_metrics, rule_of
from footplate.messages import nearest
from footplate.registry.dotted_paths import executed_files
from footplate.tools.runs import read_run
from footplate.tools.sweep.leash import Leash
from footplate.tools.sweep.space import Parameter
from footplate.tools.sweep.trial import OUTPUT, Request, in_a_process

try:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise MissingExtraError("optuna", extra="sweep", why="a sweep") from error

_logger = logging.getLogger("footplate.tools")
_ANOTHER = "--out DIR begins another one"
_STUDY = "study.db"  # SQLite creates files next to it whose names start with this name
_TRIAL = re.compile(r"[0-9a-f]{12}")  # a trial's folder name, see `sha256_of`
_KNOWN = frozenset({"error", "infeasible"})  # attributes of trials that failed for their own reasons
_SEEDS = 1 << 31
_IGNORED = ("work_dir", "resume", "load_from", "preflight")  # keys that do not affect the result of a run


class SweepSettings(NamedTuple):
    """The settings of a sweep.

    Attributes:
        folder: The folder of the study and of the trials' work_dirs.
        metric: The metric to optimize; the best validation of a trial counts.
        trials: The number of trials, including those of earlier starts.
        workers: The number of parallel trials.
        prune: Whether to stop trials early that are worse than the median.
        retry: Whether to run only the failed trials again.
        seed: The seed of the sampler.
    """

    folder: str
    metric: str
    trials: int = 20
    workers: int = 1
    prune: bool = True
    retry: bool = False
    seed: int = 0


class TrialInfo(NamedTuple):
    """A finished trial.

    Attributes:
        number: The number of the trial.
        values: The values by key.
        state: "complete", "pruned", "infeasible", "failed" or "repeated".
        score: The best metric, or the latest one for a trial that did not complete; None without a validation.
        folder: The work_dir.
        note: Why it failed or was infeasible, or which trial it repeats.
    """

    number: int
    values: dict[str, Any]
    state: str
    score: float | None
    folder: str
    note: str


class TrialNews(NamedTuple):
    """The progress of a running trial.

    Attributes:
        number: The number of the trial.
        values: The values by key.
        folder: The work_dir.
        done: The completed iterations.
        length: The iterations of the run, None until known.
        score: The latest metric, None before the first validation.
    """

    number: int
    values: dict[str, Any]
    folder: str
    done: int = 0
    length: int | None = None
    score: float | None = None


class _TrialFailedError(Exception):
    """A trial failed for a reason of its own."""


def sweep(
    cfg: Config,
    parameters: Sequence[Parameter],
    settings: SweepSettings,
    *,
    prepare: Callable[[Config], None] = lambda cfg: None,
    say: Callable[[TrialInfo], None] = lambda info: None,
    watch: Callable[[TrialNews], None] = lambda news: None,
) -> list[TrialInfo]:
    """Runs trials until the requested number is done.

    An interrupted sweep continues: trials that were running are run again, resumed from their checkpoints.

    Args:
        cfg: The config whose keys are varied.
        parameters: The keys to vary.
        settings: The settings of the sweep.
        prepare: Called with a trial's config in the process of the trial; must be picklable.
        say: Called with each trial that ends.
        watch: Called with the progress when a trial starts, and from time to time. Parallel trials call `watch` and
            `say` from their own threads.

    Returns:
        The finished trials, the best first.

    Raises:
        ArgumentError: A key is not in the config or is varied twice, it is unknown whether a higher metric is better,
            or the sweep in the folder has another config, metric or keys.
        MissingMetricError: The first trial shows that no metric has the name.
        DataError: The study in the folder is damaged.
    """
    _check_parameters(cfg, parameters)  # before creating any files
    try:
        rule = best_metric_rules(cfg._cfg_dict).get(settings.metric) or rule_of(settings.metric, named_by="--metric")
    except ArgumentError as error:
        others = [name for name in best_metrics(cfg._cfg_dict) if name != settings.metric]
        error.suggestion = nearest(settings.metric, others)
        raise
    direction: Literal["maximize", "minimize"] = "maximize" if rule == "greater" else "minimize"
    os.makedirs(settings.folder, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with locked(settings.folder):
        _check_links(settings.folder)
        with _reading(settings.folder):
            study = _study_of(settings, direction)
            _check_attributes(study, settings.folder)
            _check_same(study, cfg, parameters, settings)
            describe_trials(study, parameters, settings.folder)  # fails early on a damaged study
        try:
            _Sweep(study, cfg, parameters, settings, prepare, say, watch).run()
        except SQLAlchemyError as error:
            raise _damaged(settings.folder) from error
        except MissingMetricError:
            if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
                # Otherwise the corrected command would be rejected, since the study has the wrong metric.
                optuna.delete_study(study_name="sweep", storage=_storage_of(settings.folder))
            raise
    return describe_trials(study, parameters, settings.folder)


def _check_links(folder: str) -> None:
    """Raises an error for links among the files that a sweep writes, since an untrusted folder could redirect them.

    Raises:
        DataError: The study, the folder of a trial or the output of a trial is a link.
    """
    for name in filter(lambda name: name.startswith(_STUDY) or _TRIAL.fullmatch(name), os.listdir(folder)):
        written = os.path.join(folder, name), os.path.join(folder, name, OUTPUT)
        link = next((path for path in written if os.path.islink(path)), None)
        if link is not None:
            raise DataError(f"the sweep would write through the link '{link}'", notes=["Remove the link.", _ANOTHER])


@contextmanager
def _reading(folder: str) -> Iterator[None]:
    """Converts any error that optuna raises while reading a study to one DataError."""
    try:
        yield
    except FootplateError:
        raise
    except Exception as error:
        raise _damaged(folder) from error


def _damaged(folder: str) -> DataError:
    return DataError(f"the {_STUDY} in '{folder}' is damaged", notes=[_ANOTHER])


def _check_parameters(cfg: Config, parameters: Sequence[Parameter]) -> None:
    """Raises an ArgumentError if a key is varied twice, is not in the config, or has no effect."""
    keys = [parameter.key for parameter in parameters]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ArgumentError("a key is varied once", key="--param", found=twice)
    read = keys_read(cfg)
    for parameter in parameters:
        for example in parameter.choices or (parameter.low, parameter.high):
            idle = without_effect(_with_values(cfg, {parameter.key: example}), read)
            told = next((each for each in idle if each.startswith(f"--set: '{parameter.key}'")), None)
            if told is not None:
                raise ArgumentError(told.removeprefix("--set: "), key="--param")


def _storage_of(folder: str) -> str:
    return f"sqlite:///{os.path.join(folder, _STUDY)}"


def _study_of(settings: SweepSettings, direction: Literal["maximize", "minimize"]) -> Any:
    """Opens the study in the folder of a sweep, or creates it."""
    prune = settings.prune
    return optuna.create_study(
        storage=_storage_of(settings.folder),
        study_name="sweep",
        direction=direction,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=settings.seed + _count(settings), multivariate=False),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4) if prune else optuna.pruners.NopPruner(),
    )


def describe_trials(study: Any, parameters: Sequence[Parameter], folder: str) -> list[TrialInfo]:
    """Returns the finished trials of a study, the best first."""
    known = {parameter.key: parameter for parameter in parameters}
    ended = [_info(trial, known, folder) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    order = {"complete": 0, "repeated": 1, "pruned": 2, "infeasible": 3, "failed": 4}
    return sorted(ended, key=lambda each: (order[each.state], sign * (each.score if each.score is not None else 0)))


def sha256_of(cfg: Config) -> str:
    """Returns a hash that identifies a trial's config; equal configs have equal hashes."""
    content = {key: value for key, value in cfg.to_dict().items() if key not in _IGNORED}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:12]


class _Sweep:
    """A running sweep."""

    def __init__(
        self,
        study: Any,
        cfg: Config,
        parameters: Sequence[Parameter],
        settings: SweepSettings,
        prepare: Callable[[Config], None],
        say: Callable[[TrialInfo], None],
        watch: Callable[[TrialNews], None],
    ) -> None:
        self.study, self.cfg, self.parameters, self.settings = study, cfg, parameters, settings
        self.prepare, self.say, self.watch = prepare, say, watch
        self.leash = Leash()
        self.seed = _seed_of(study)

    def run(self) -> None:
        again = self._left_over()
        for trial in again:
            self.study.enqueue_trial(trial.params, skip_if_exists=False)
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        if self.settings.retry:
            count = len(again)
        else:
            begun = self.study.user_attrs["begun_anew"]
            count = self.settings.trials - sum(trial.number not in begun for trial in ended)
            if all(parameter.choices for parameter in self.parameters):
                count = self._combine(count)
        if count <= 0:
            return
        self.study.ask = _one_at_a_time(self.study.ask)
        with self.leash.answering_interrupts():
            self.study.optimize(
                self._objective,
                n_trials=count,
                n_jobs=self.settings.workers,
                catch=(_TrialFailedError,),
                callbacks=[self._ended],
            )

    def _combine(self, most: int) -> int:
        """Enqueues combinations of choices that were not tried yet; returns how many are waiting, at most `most`."""
        waiting = (optuna.trial.TrialState.WAITING,)
        for chosen in itertools.product(*(range(len(parameter.choices)) for parameter in self.parameters)):
            if len(self.study.get_trials(deepcopy=False, states=waiting)) >= most:
                break
            values = {parameter.key: place for parameter, place in zip(self.parameters, chosen, strict=True)}
            self.study.enqueue_trial(values, skip_if_exists=True)
        return min(most, len(self.study.get_trials(deepcopy=False, states=waiting)))

    def _left_over(self) -> list[Any]:
        """Returns the trials to run again: those of an interrupted sweep, or with `retry` those that failed."""
        states = optuna.trial.TrialState
        running = self.study.get_trials(states=(states.RUNNING,))  # the sweep's process was killed
        stopped = [trial for trial in self.study.get_trials(states=(states.FAIL,)) if not _KNOWN & {*trial.user_attrs}]
        for trial in running:
            self.study.tell(trial.number, state=states.FAIL)
        begun = self.study.user_attrs.get("begun_anew", [])
        left = [trial for trial in (*running, *stopped) if trial.number not in begun]
        self.study.set_user_attr("begun_anew", [*begun, *(trial.number for trial in left)])
        if not self.settings.retry:
            return left
        failed = [trial for trial in self.study.get_trials(states=(states.FAIL,)) if "error" in trial.user_attrs]
        done = {trial.user_attrs.get("config") for trial in self.study.get_trials(states=(states.COMPLETE,))}
        latest = {trial.user_attrs.get("config"): trial for trial in failed}
        return [trial for config, trial in latest.items() if config not in done]

    def _objective(self, trial: Any) -> float:
        values = {parameter.key: parameter.suggest(trial) for parameter in self.parameters}
        cfg = _with_values(self.cfg, values)
        digest = sha256_of(cfg)
        trial.set_user_attr("config", digest)
        for other in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
            if other.user_attrs.get("config") == digest:
                trial.set_user_attr("same_as", other.number)
                return float(other.value)
        return self._measured(trial, cfg, TrialNews(trial.number, values, os.path.join(self.settings.folder, digest)))

    def _measured(self, trial: Any, cfg: Config, news: TrialNews) -> float:
        folder = news.folder
        os.makedirs(folder, exist_ok=True)
        self.watch(news)
        cfg["work_dir"], cfg["resume"] = folder, any(name.endswith(".pth") for name in os.listdir(folder))
        before = seed_of_resumed(folder, None, cfg["resume"])  # the seed of a resumed trial may differ from the study's
        _set_seed(cfg, self.seed if before is None else before)
        threads = max(1, (os.cpu_count() or 1) // self.settings.workers) if self.settings.workers > 1 else 0
        cfg["preflight"] = cfg.get("preflight", True)  # detects a missing metric before the first iteration
        request = Request(cfg._cfg_dict, self.settings.metric, threads, self.prepare, executed_files())
        tell = lambda **known: self.watch(news._replace(**known))  # noqa: E731
        scores, (kind, why) = in_a_process(request, trial, tell, self.leash)
        if cfg["resume"]:  # include validations before the interruption; the run may have been complete
            scores = [*_validated(folder, self.settings.metric), *scores]
        if kind == "interrupted":
            raise KeyboardInterrupt
        if isinstance(why, MissingMetricError):
            trial.set_user_attr("error", why.message)
            if self.settings.metric in best_metrics(self.cfg._cfg_dict):
                first = is_first_generation(self.cfg)
                why.key = "evaluation.save_best" if first else "default_hooks.checkpoint.save_best"
            why.origin = None  # the trial's config has no origins
            with located(self.cfg):
                raise why
        if kind == "infeasible":
            trial.set_user_attr("infeasible", why)
            raise optuna.TrialPruned(why)
        if kind == "pruned":
            raise optuna.TrialPruned
        if kind == "failed" or not scores:
            trial.set_user_attr("error", why or "the run has no validation")
            raise _TrialFailedError(why)
        best = max if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else min
        return float(best(scores))

    def _ended(self, study: Any, trial: Any) -> None:
        known = {parameter.key: parameter for parameter in self.parameters}
        self.say(_info(trial, known, self.settings.folder))


def _one_at_a_time(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Serializes `ask` across worker threads; otherwise SQLite could give two of them the same waiting trial."""
    lock = threading.Lock()

    def alone(*arguments: Any, **options: Any) -> Any:
        with lock:
            return ask(*arguments, **options)

    return alone


def _validated(folder: str, metric: str) -> list[float]:
    """Returns the validation results recorded in a trial's folder."""
    try:
        series = read_run(folder).find(metric, "val")
    except DataError:
        return []
    return [value for _, value in series.points] if series else []


def _info(trial: Any, known: Mapping[str, Parameter], folder: str) -> TrialInfo:
    attributes = trial.user_attrs
    state = trial.state.name.lower()
    state = {"fail": "failed"}.get(state, state)
    note = attributes.get("error", "interrupted" if state == "failed" else "")
    if "infeasible" in attributes:
        state, note = "infeasible", attributes["infeasible"]
    elif "same_as" in attributes:
        state, note = "repeated", f"as trial {attributes['same_as']}"
    score = trial.value if trial.value is not None else next(reversed(trial.intermediate_values.values()), None)
    values = {key: known[key].value_of(value) if key in known else value for key, value in trial.params.items()}
    place = os.path.join(folder, os.path.basename(str(attributes.get("config", ""))))  # a study may be untrusted
    return TrialInfo(trial.number, values, state, score, place, note)


def first_of(cfg: Config, parameters: Sequence[Parameter]) -> Config:
    """Returns the config with the first choice or the minimum of each parameter."""
    return _with_values(cfg, {each.key: each.choices[0] if each.choices else each.low for each in parameters})


def _with_values(cfg: Config, values: Mapping[str, Any]) -> Config:
    changed = copy.deepcopy(cfg)
    apply_overrides(changed, [f"{key}={_written(value)}" for key, value in values.items()], strict=True)
    return changed


def _written(value: Any) -> str:
    return value if isinstance(value, str) else write_value(value)


def _check_same(study: Any, cfg: Config, parameters: Sequence[Parameter], settings: SweepSettings) -> None:
    """Raises an error if a study has another config, metric, keys or choices; ranges may change."""
    varied = {each.key: repr(each.choices) if each.choices else "a range" for each in parameters}
    firsts = {each.key: each.choices[0] if each.choices else 0 for each in parameters}
    asked = {"metric": settings.metric, "parameters": varied, "config": sha256_of(_with_values(cfg, firsts))}
    begun = study.user_attrs.get("asked", asked)
    if begun != asked:
        told = ", ".join(f"{key}: {what}" for key, what in begun["parameters"].items())
        raise ArgumentError(
            f"the sweep in '{settings.folder}' was begun with another config, metric, keys or choices",
            key="--out",
            notes=[f"metric {begun['metric']}; {told}", _ANOTHER],
        )
    study.set_user_attr("asked", asked)


def _check_attributes(study: Any, folder: str) -> None:
    """Raises an error for attributes that no sweep writes.

    Raises:
        DataError: An attribute has another type or range.
    """
    seed, begun = study.user_attrs.get("run_seed", 0), study.user_attrs.get("begun_anew", [])
    if type(seed) is not int or not 0 <= seed < _SEEDS:
        raise _damaged(folder)
    if not isinstance(begun, list) or any(type(number) is not int for number in begun):
        raise _damaged(folder)
    for trial in study.get_trials(deepcopy=False):
        if any(not isinstance(trial.user_attrs.get(key, ""), str) for key in ("config", *_KNOWN)):
            raise _damaged(folder)


def _seed_of(study: Any) -> int:
    """Returns the seed that the trials of a study share; draws it for a new study."""
    seed = study.user_attrs.get("run_seed")
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little") % _SEEDS
        study.set_user_attr("run_seed", seed)
    return int(seed)


def _set_seed(cfg: Config, seed: int) -> None:
    """Sets the seed of a trial if its config has none, so that trials differ only in their settings.

    The seed is not part of the hash that identifies the trial.
    """
    if is_first_generation(cfg):
        if cfg.get("seed") is None:
            cfg["seed"] = seed
    elif (cfg.get("randomness") or {}).get("seed") is None:
        cfg["randomness"] = {**(cfg.get("randomness") or {}), "seed": seed}


def _count(settings: SweepSettings) -> int:
    """Returns the number of existing trials, so that a continued sweep does not repeat its choices."""
    path = os.path.join(settings.folder, _STUDY)
    if not os.path.exists(path):
        return 0
    try:
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{path}")
    except KeyError:  # killed before the study was created
        return 0
    return len(study.get_trials(deepcopy=False))


def default_metric(cfg: Config) -> str:
    """Returns the metric that selects a config's best checkpoint.

    Raises:
        ArgumentError: The config names no such metric.
    """
    name = next((each for each in best_metrics(cfg._cfg_dict) if each != "auto"), None)
    if name is None:
        raise ArgumentError("the config names no metric to judge trials by", notes=["--metric NAME does"])
    return name
