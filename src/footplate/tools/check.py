"""Checks a config with a short trial of the run, which trains, validates, saves and loads."""

import ast
import inspect
import logging
import os
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor, nn

from footplate import storage
from footplate.config import Config
from footplate.data import BaseDataset, length_of
from footplate.data.dataset_wrappers import count_skipped, innermost_datasets
from footplate.distributed import (
    barrier,
    broadcast_object,
    gather_objects,
    get_data_world_size,
    is_main_process,
    unwrap_model,
)
from footplate.distributed.sharding import is_sharded
from footplate.distributed.wrappers import ModelDistributedDataParallel
from footplate.engine import Hook, Runner, process_setup
from footplate.engine.evaluation_loops import predicting
from footplate.engine.hook import Phase
from footplate.engine.idle_settings import warn_about_idle_settings
from footplate.engine.preflight import (
    check_free_space,
    checkpoint_size,
    evaluate_quietly,
    predict_batch,
    trial_evaluator,
)
from footplate.engine.run_config import check_config, runner_config, warn_about_variables
from footplate.engine.sections import check_visualizer
from footplate.engine.signals import EarlyExitError
from footplate.error_context import located
from footplate.errors import CheckpointError, FootplateError
from footplate.evaluation import Evaluator
from footplate.evaluation.evaluation_sets import EvaluationSet
from footplate.hooks import CheckpointHook, RuntimeInfoHook
from footplate.interrupts import temporary_folder
from footplate.messages import format_bytes, format_seconds, labeled, pluralize
from footplate.records import memory_in_use
from footplate.records.logger import buffer_log, collect_warnings
from footplate.tools.explain_loops import explain_loops, loops_as_data, order_of_hooks
from footplate.tools.explain_optimizer import Groups, groups_in
from footplate.tools.failing_module import ComponentError, module_error
from footplate.tools.memory_use import Largest, counting_activations, largest_batch, state_bytes
from footplate.tools.partial_build import build_trial

_logger = logging.getLogger("footplate.tools")
_ITERATIONS = 2
_MAX_PADDING = 0.5  # of the pixels


class Checked(NamedTuple):
    """The result of a check.

    Attributes:
        text: The summary, with one item per line.
        warnings: The warnings that the run would log.
        loops: The result of `loops_as_data`.
        measured: The measurements of the trial by name: `seconds_per_iteration` (without the wait for data),
            `seconds_of_waiting`, `seconds_per_validation` (of all datasets, estimated; None without validation),
            `memory` (peak MiB of each process), `memory_parts` (bytes in this process), `checkpoint` (bytes) and
            `metrics` (names). Empty if only the config was checked.
    """

    text: str
    warnings: list[str]
    loops: Mapping[str, Any]
    measured: Mapping[str, Any]


class Trial(NamedTuple):
    """The measurements of a trial of two iterations."""

    runner: Runner
    largest: dict[str, Largest]  # the largest batch of each dataset; not of training if the loop steps the model itself
    groups: Groups
    measured: dict[str, Any]  # see `Checked`


def check(cfg: Config, *, run: bool = True) -> Checked:
    """Checks a config, performs a short trial of the run, and returns a summary of what the run will do.

    The trial leaves no files: it has a temporary folder and no visualizer backends.

    Args:
        cfg: A config of either generation, with its `work_dir`.
        run: Whether to run the trial. If False, only the config is checked.

    Raises:
        FootplateError: The run would fail. The error names the key. Earlier warnings are logged.
    """
    measured: dict[str, Any] = {}
    records: list[logging.LogRecord] = []
    try:
        with collect_warnings() as found, buffer_log() as records:
            checked = runner_config(cfg) if run else check_config(cfg)  # the trial checks it
            warn_about_variables(checked)
            if run:
                with located(checked):  # the trial has no backends
                    check_visualizer({"visualizer": checked.get("visualizer")})
                with _shared_folder(checked) as folder:
                    trial = _try(checked, folder)
                    skipped = count_skipped(getattr(trial.runner.train_dataloader, "dataset", None))
                    if skipped and not any("Skipping sample" in message for message in found):  # by a worker
                        _logger.warning("Unreadable training samples that a run would skip: at least %d.", skipped)
                        for dataset in innermost_datasets(trial.runner.train_dataloader.dataset):
                            if isinstance(dataset, BaseDataset):
                                dataset.log_skipped()
                    hooks, epoch_length = trial.runner.hooks, length_of(trial.runner.train_dataloader)
                    loops = loops_as_data(checked, hooks=hooks, length_of_epoch=epoch_length)
                    lines = _describe_trial(trial, loops)
                    measured = trial.measured
            else:
                hooks, _ = order_of_hooks(checked)
                schedules, train = checked.get("param_scheduler"), checked.get("train_cfg")
                has_validation = checked.get("val_cfg") is not None
                warn_about_idle_settings(checked, hooks, schedules, train, has_validation=has_validation)
                loops, lines = loops_as_data(checked, hooks=hooks), []
            names = ", ".join(type(hook).__name__ for hook in hooks if not isinstance(hook, _TrialHook))
            lines += [*explain_loops(loops).splitlines(), labeled("hooks", names)]
    except Exception:  # no summary will contain the warnings
        for message in dict.fromkeys(each.getMessage() for each in records if each.levelno == logging.WARNING):
            _logger.warning("%s", message)
        raise
    unique = list(dict.fromkeys(found))
    lines += [labeled("warning", each) for each in unique]
    result = "no problems found" if run else "no problems found in the config; data and weights were not read"
    count = f", {pluralize(len(unique), 'warning')}" if unique else ""
    text = "\n".join([f"{cfg.filename or 'config'}: {result}{count}", *lines]) + "\n"
    return Checked(text, unique, loops, measured)


@contextmanager
def _shared_folder(cfg: Config) -> Iterator[str]:
    """Creates a folder that all processes share, and removes it when the last process is done."""
    with located(cfg):
        process_setup.prepare(cfg.get("env_cfg") or {}, launcher=cfg.get("launcher") or "none")
    if is_main_process():
        with temporary_folder("footplate-check-") as folder:
            yield broadcast_object(folder)
            barrier()
    else:
        yield broadcast_object("")
        barrier()


def _try(cfg: Config, folder: str) -> Trial:
    """Trains for two iterations, then trains and validates on the largest batches."""
    runner = build_trial(cfg, folder, preflight=True)
    hook = _TrialHook()
    runner.register_hook(hook)
    _warn_of_wrapped_members(runner)
    with located(cfg):
        try:
            with _warning_of_padding(runner), suppress(EarlyExitError):
                runner.train()
            largest: dict[str, Largest] = {}
            own_loop = any(map(runner.train_loop.overrides, ("run", "run_epoch", "run_iter")))
            if not own_loop:  # such a loop may pass other batches to the model, or step several optimizers
                largest["train"] = largest_batch(runner.train_dataloader)
                hook.stage = "the largest training batch", "model"
                with counting_activations(unwrap_model(runner.model)) as activations:
                    runner.model.train_step(largest["train"].batch, optim_wrapper=runner.optim_wrapper)
            parts = state_bytes(runner)
            if not own_loop and not is_sharded(runner.model):  # gathered weights would count as activations
                parts["activations"] = activations()
            validating, metrics, largest_in_validation = _validate(runner, hook)
            saving = next((each for each in runner.hooks if isinstance(each, CheckpointHook)), CheckpointHook())
            size = checkpoint_size(
                runner, save_optimizer=saving.save_optimizer, save_param_scheduler=saving.save_param_scheduler
            )
        except (FootplateError, EarlyExitError):
            raise
        except Exception as error:
            stage, key = hook.stage
            raise (module_error(stage, error, cfg) or ComponentError(stage, error, key=key)) from error
    memory = gather_objects(memory_in_use(runner.device))
    if storage.is_local(cfg["work_dir"]):  # must be writable and have room for a checkpoint, but is not created
        path = Path(os.path.abspath(os.path.expanduser(cfg["work_dir"])))
        existing = next(each for each in (path, *path.parents) if each.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise CheckpointError(f"cannot write to '{cfg['work_dir']}'", key="work_dir", found=str(existing))
        check_free_space(str(existing), size, "work_dir")
    return Trial(
        runner=runner,
        largest={**largest, **largest_in_validation},
        groups=groups_in(runner.optim_wrapper, unwrap_model(runner.model)),
        measured={
            "seconds_per_iteration": hook.seconds,
            "seconds_of_waiting": hook.waiting,
            "seconds_per_validation": validating,
            "memory": memory,
            "memory_parts": parts,
            "checkpoint": size,
            "metrics": metrics,
        },
    )


def _warn_of_wrapped_members(runner: Runner) -> None:
    """Warns about lines of users' hooks that work with one process only: `runner.model.head`, without the wrapper."""
    model, wrapper = runner.unwrapped_model, {*dir(ModelDistributedDataParallel), *dir(nn.Module()), "module"}
    for kind in dict.fromkeys(type(hook) for hook in runner.hooks):
        try:
            lines, first = inspect.getsourcelines(kind)
        except (OSError, TypeError):  # defined without a file
            continue
        if kind.__module__.startswith("footplate.") or any(".module" in line for line in lines):
            continue
        for node in ast.walk(ast.parse(textwrap.dedent("".join(lines)))):
            if not isinstance(node, ast.Attribute) or ast.unparse(node.value) not in (
                "runner.model",
                "self.runner.model",
            ):
                continue
            if node.attr not in wrapper and hasattr(model, node.attr):
                _logger.warning(
                    "%s:%d: with several processes, runner.model is a wrapper, which has no '%s'. "
                    "Write runner.unwrapped_model.%s.",
                    inspect.getsourcefile(kind),
                    first + node.lineno - 1,
                    node.attr,
                    node.attr,
                )


def _validate(runner: Runner, hook: "_TrialHook") -> tuple[float | None, list[str], dict[str, Largest]]:
    """Validates the largest batch of each validation dataset twice, and computes the metrics if one batch is enough.

    Returns:
        The estimated validation time in seconds, based on the second passes, or None if the run has no validation; the
        names of the losses and metrics; and the largest batch of each dataset.
    """
    loop: Any = runner.val_loop  # a custom loop has one dataset
    own = EvaluationSet("", runner.val_dataloader, getattr(loop, "evaluator", None) or Evaluator([]))
    sets: Sequence[EvaluationSet] = getattr(loop, "sets", [own]) if loop is not None else []
    if not sets:
        return None, [], {}
    total, metrics, largest, are_complete = 0.0, dict[str, float](), dict[str, Largest](), True
    _call_own_hooks(runner, hook, "before_val", "before_val_epoch")
    runner.phase = Phase.EVALUATION
    for each in sets:
        hook.stage = "the validation", "model"
        found = largest[f"val {each.name}".rstrip()] = largest_batch(each.dataloader)
        if hasattr(loop, "choose"):
            loop.choose(each)
        runner.model.eval()
        with trial_evaluator(each.evaluator, getattr(each.dataloader, "dataset", None)) as trial:
            for _ in range(2):
                begin = time.perf_counter()
                samples, losses = predict_batch(runner, found.batch)
                seconds = time.perf_counter() - begin
            with predicting(loop, runner.device):
                trial.process(data_samples=samples, data_batch=found.batch)
                _call_own_hooks(runner, hook, "before_val_iter", batch_idx=0, data_batch=found.batch)
                _call_own_hooks(runner, hook, "after_val_iter", batch_idx=0, data_batch=found.batch, outputs=samples)
            try:
                own_metrics = evaluate_quietly(trial, len(samples))
                own_losses = {name: float(losses[name]) for name in losses if "loss" in name}
                metrics.update(each.named({**own_losses, **own_metrics}))
            except Exception:  # some metrics need more than one batch; the preflight has reported it
                are_complete = False
        total += seconds * (length_of(each.dataloader) or 0)
    if are_complete:
        if hasattr(loop, "choose"):
            loop.choose(sets[0])
        if hasattr(loop, "metrics"):
            loop.metrics = metrics
        _call_own_hooks(runner, hook, "after_val_epoch", metrics=metrics)
        _call_own_hooks(runner, hook, "after_val")
    return total, list(metrics), largest


def _call_own_hooks(runner: Runner, stage: "_TrialHook", *events: str, **arguments: Any) -> None:
    """Calls RuntimeInfoHook and the user's hooks at the given events.

    Skips all other footplate hooks, and hooks that save checkpoints, because they write files.
    """
    for event in events:
        for method in runner.hooks.at(event):
            hook: Any = getattr(method, "__self__", None)
            if isinstance(hook, RuntimeInfoHook) or (_is_of_user(method) and not isinstance(hook, CheckpointHook)):
                stage.stage = f"{type(hook).__name__}.{event}", runner.hooks.key_of(hook)
                method(runner, **arguments)


class _TrialHook(Hook):
    """Measures two iterations, then stops the run.

    Attributes:
        stage: The current stage of the run, and the config key to report for errors in this stage.
    """

    priority = 100  # runs after every other hook

    def __init__(self) -> None:
        self.stage = ("saving, loading and validating once", "model")
        self.seconds = self.waiting = 0.0
        self._done = 0
        self._last = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Starts timing the wait for data."""
        self.stage = ("reading the first training batch", "train_dataloader")
        self._last = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Measures the wait for data."""
        self.stage = (f"training iteration {self._done + 1}", "model")
        self.waiting, self._last = time.perf_counter() - self._last, time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Measures the iteration, and stops the run after the last one."""
        self.seconds, self._last = time.perf_counter() - self._last, time.perf_counter()
        self._done += 1
        self.stage = ("reading a training batch", "train_dataloader")
        if self._done == _ITERATIONS:
            raise EarlyExitError


@contextmanager
def _warning_of_padding(runner: Runner) -> Iterator[None]:
    """Warns after the block if most pixels in its training batches are padding."""
    shares: list[float] = []

    def measure(preprocessor: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if not (
            preprocessor.training and arguments and isinstance(arguments[0], Mapping) and isinstance(output, Mapping)
        ):
            return
        images, stacked = arguments[0].get("inputs"), output.get("inputs")
        if not isinstance(images, (list, Tensor)) or not isinstance(stacked, Tensor) or stacked.ndim != 4:
            return
        if all(isinstance(each, Tensor) and each.ndim == 3 for each in images):
            used = sum(each.shape[-2] * each.shape[-1] for each in images)
            shares.append(1 - used / (len(images) * stacked.shape[-2] * stacked.shape[-1]))

    preprocessor = getattr(unwrap_model(runner.model), "data_preprocessor", None)
    handle = preprocessor.register_forward_hook(measure) if isinstance(preprocessor, nn.Module) else None
    yield
    if handle is not None:
        handle.remove()
    if shares and sum(shares) / len(shares) > _MAX_PADDING:
        _logger.warning(
            "%.0f%% of the pixels in the first training batches are padding. Images are padded to the size of "
            "model.data_preprocessor, or to that of the largest image in their batch.",
            100 * sum(shares) / len(shares),
        )


def _describe_trial(trial: Trial, loops: Mapping[str, Any]) -> list[str]:
    runner, measured = trial.runner, trial.measured
    model = unwrap_model(runner.model)
    sizes = [(each.numel(), each.requires_grad) for each in model.parameters()]
    total, trainable = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    lines = [labeled("model", f"{type(model).__name__}, {total:,} parameters, {trainable:,} trainable")]
    for group in trial.groups.groups:
        settings = ", ".join(f"{name} {value:g}" for name, value in group.settings.items() if name != "betas")
        reasons = f", set by {', '.join(group.reasons)}" if group.reasons else ""
        lines.append(labeled("group", f"{group.optimizer} {settings}: {len(group.names)} tensors{reasons}"))
    if len(measured["memory"]) > 1:
        kind = "FullyShard" if is_sharded(runner.model) else type(runner.model).__name__.removeprefix("Model")
        size = getattr(runner.train_dataloader, "batch_size", None)
        samples = f", {size} samples each and {size * get_data_world_size()} in total per iteration" if size else ""
        lines.append(labeled("processes", f"{runner.world_size}, {kind} over {dist.get_backend()}{samples}"))
    for mode, largest in trial.largest.items():
        lines.append(labeled(f"{mode} data", f"{largest.samples} samples, {largest.description}"))
    step, waiting = measured["seconds_per_iteration"], measured["seconds_of_waiting"]
    validating = measured["seconds_per_validation"]
    speed = f"{step:.3g} s per iteration, {waiting:.3g} s of waiting for data"
    seconds = runner.max_iters * (step + waiting)
    if validating is not None:
        speed += f", {validating:.3g} s per validation"
        if loops["val"]:
            seconds += len(loops["val"].get("after", ())) * validating
    lines.append(labeled("speed", speed))
    lines.append(labeled("time", f"about {format_seconds(seconds)} in total"))
    least, most = min(measured["memory"]), max(measured["memory"])
    ranks = f"{most} MiB on each rank" if least == most else f"{least} to {most} MiB on the ranks"
    memory = ranks if len(measured["memory"]) > 1 else f"{most} MiB"
    tried = "the largest batches of training and validation"
    if "train" not in trial.largest:
        tried = f"the first training iterations of {type(runner.train_loop).__name__}; larger batches may need more"
    lines.append(labeled("memory", f"at most {memory}, with {tried}"))
    parts = (f"{name} {format_bytes(size)}" for name, size in measured["memory_parts"].items())
    lines.append(labeled("parts", f"of the memory in training: {', '.join(parts)}"))
    lines.append(labeled("size", f"{format_bytes(measured['checkpoint'])} per checkpoint"))
    if measured["metrics"]:
        lines.append(labeled("metrics", ", ".join(measured["metrics"])))
    return lines


def _is_of_user(method: Callable[..., Any]) -> bool:
    """Checks whether the method of a hook is user code rather than part of footplate."""
    hook = getattr(method, "__self__", None)
    return not f"{type(hook).__module__}.".startswith("footplate.") or getattr(hook, "is_of_user", False)
