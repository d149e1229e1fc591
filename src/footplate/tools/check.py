"""Checks a config with a short trial run that trains, validates, saves and loads."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch.distributed as dist

from footplate import storage
from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.data import BaseDataset, dataset_of, length_of
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.distributed import broadcast_object, gather_objects, get_world_size, is_main_process, unwrap_model
from footplate.distributed.sharding import is_sharded
from footplate.engine import Hook, Run, Runner
from footplate.engine.control import process_setup
from footplate.engine.control.requests import EarlyExitError
from footplate.engine.loops.evaluation_loops import ValLoop, predicting
from footplate.engine.plan.idle_settings import warn_about_idle_settings, warn_about_variables
from footplate.engine.plan.plan import RunPlan
from footplate.engine.run.components import build_log_processor
from footplate.engine.run.preflight import (
    check_free_space,
    checkpoint_size,
    evaluate_quietly,
    predict_batch,
    trial_evaluator,
)
from footplate.error_context import at_key, located
from footplate.errors import CheckpointError, FootplateError, StorageError, is_own_module, shown_path
from footplate.evaluation.evaluation_sets import sets_of
from footplate.extensions import extensions
from footplate.hooks import CheckpointHook, RuntimeInfoHook
from footplate.interrupts import temporary_folder
from footplate.messages import format_bytes, format_seconds, labeled, list_names, pluralize
from footplate.records import LocalVisBackend, memory_in_use
from footplate.records.base_writer import Tracker
from footplate.registry import VISBACKENDS
from footplate.tools.collected_warnings import collect_warnings
from footplate.tools.explain_loops import Row, describe_loops, order_of_hooks, validations
from footplate.tools.explain_optimizer import format_setting, groups_in
from footplate.tools.failing_module import ComponentError, module_error
from footplate.tools.memory_use import Largest, counting_activations, labels_in, largest_batch, state_bytes
from footplate.tools.runs import TRAINING_BATCH
from footplate.tools.trial import build_alone, build_trial

_logger = logging.getLogger("footplate.tools")
_ITERATIONS = 2
_MAX_RECORDS = 100_000  # checked for missing files, per dataset
_MAX_FILES = 10  # in a warning


class Checked(NamedTuple):
    """The summary, warnings and measurements of a check.

    Attributes:
        text: The summary, with one item per line.
        warnings: The warnings that the run would log.
        loops: The result of `describe_loops`.
        measured: The measurements of the trial by name: `seconds_per_iteration` (without the time spent waiting for
            data), `seconds_of_waiting`, `seconds_per_validation` (estimated for all datasets; None without validation),
            `memory` (peak MiB of each process), `memory_parts` (bytes in this process), `checkpoint` (bytes),
            `metrics` (names) and `picture` (the path of the drawn training batch, or ""). Empty if only the config was
            checked.
    """

    text: str
    warnings: list[str]
    loops: list[Row]
    measured: Mapping[str, Any]


def check(cfg: Config, *, run: bool = True) -> Checked:
    """Checks a config, performs a short trial of the run, and returns a summary of what the run will do.

    The trial writes to a temporary folder and uses no visualization backends. Only an image of the first training
    batch is written to the work_dir, if an extension draws the batch.

    Args:
        cfg: A config of either generation, with its `work_dir`.
        run: Whether to run the trial. If False, only the config is checked, and the model is built.

    Raises:
        FootplateError: The run would fail. The error message contains the key. Warnings collected before the error are
            logged.
    """
    measured: dict[str, Any] = {}
    try:
        with collect_warnings() as warnings:
            plan = RunPlan.from_config(cfg)
            plan.check()
            warn_about_variables(plan.cfg)
            if run:
                with located(plan.cfg), at_key("visualizer"):  # the trial has no backends
                    _check_packages_of_writers(plan["visualizer"])
                with _shared_folder(plan) as folder:
                    runner, largest, measured = _try(plan.cfg, folder)
                    for data in largest.values():
                        if data.labels is not None:
                            data.labels.warn()
                    for dataset in innermost_datasets(dataset_of(runner.train_dataloader)):
                        if isinstance(dataset, BaseDataset):
                            dataset.repeat_skip_warnings()
                    hooks, epoch_length = runner.hooks, length_of(runner.train_dataloader)
                    loops = describe_loops(plan, hooks, length_of_epoch=epoch_length)
                    lines = _describe_trial(runner, largest, measured, len(validations(plan) or ()))
            else:
                hooks = order_of_hooks(plan)
                build_log_processor(plan["log_processor"], plan.by_epoch)
                build_alone(plan)  # checks the sections that the model builds itself
                if plan["val_cfg"] is None:
                    warn_about_idle_settings(plan.cfg, hooks)
                loops, lines = describe_loops(plan, hooks), []
    except Exception:  # log the warnings, since there is no summary to list them
        for message in warnings:
            _logger.warning("%s", message)
        raise
    names = ", ".join(type(hook).__name__ for hook in hooks if not isinstance(hook, _TrialHook))
    lines += ["", *(labeled(*row) for row in loops), labeled("hooks", names)]
    lines += [labeled("warning", warning) for warning in warnings]
    result = "no problems found" if run else "no problems found in the config; the data was not read"
    count = f", {pluralize(len(warnings), 'warning')}" if warnings else ""
    text = "\n".join([f"{shown_path(str(cfg.filename or 'config'))}: {result}{count}", *lines]) + "\n"
    return Checked(text, warnings, loops, measured)


def _check_packages_of_writers(visualizer: Any) -> None:
    """Builds each visualization backend that uses a library, to check that the library is installed. Starts no run."""
    backends = visualizer.get("vis_backends") if isinstance(visualizer, Mapping) else None
    for place, backend in enumerate(backends or ()):
        kind = VISBACKENDS.resolve(backend.get("type"), backend) if isinstance(backend, Mapping) else None
        if isinstance(kind, type) and issubclass(kind, Tracker):
            with at_key(f"vis_backends[{place}]"):
                VISBACKENDS.build({key: backend[key] for key in backend if key != "name"})


@contextmanager
def _shared_folder(plan: RunPlan) -> Iterator[str]:
    """Creates a folder that all processes share, and removes it when the last process is done."""
    with located(plan.cfg):
        process_setup.prepare(plan["env_cfg"], launcher=plan["launcher"] or "none")
    with temporary_folder("footplate-check-") if is_main_process() else nullcontext("") as folder:
        yield broadcast_object(folder)
        gather_objects(None)


def _try(cfg: Config, folder: str) -> tuple[Runner, dict[str, Largest], dict[str, Any]]:
    """Trains for two iterations, then trains and validates on the largest batches.

    Returns the runner, the largest batch of each dataset, and the measurements (see `Checked`). The training batch is
    missing if the user's own training loop may pass other batches to the model.
    """
    runner = build_trial(cfg, folder)
    hook = _TrialHook()
    largest: dict[str, Largest] = {}
    with located(cfg):
        _warn_about_missing_files(runner)
        # A user's loop may pass other batches to the model, or step several optimizers.
        has_own_loop = any(map(runner.train_loop.overrides, ("run", "run_epoch", "run_iter")))
        try:
            runner.register_hook(hook)
            with suppress(EarlyExitError):
                runner.train()
            if has_own_loop:
                parts = state_bytes(runner)
            else:
                largest["train"] = largest_batch(runner.train_dataloader)
                hook.stage = "training on the largest batch", "model"
                with counting_activations(unwrap_model(runner.model)) as activations:
                    runner.model.train_step(largest["train"].batch, optim_wrapper=runner.optim_wrapper)
                parts = state_bytes(runner)
                if not is_sharded(runner.model):  # gathered weights would count as activations
                    parts["activations"] = activations()
            with runner.phase("val"):
                validating, metrics = _validate(runner, hook, largest)
            saving = next((each for each in runner.hooks if isinstance(each, CheckpointHook)), CheckpointHook())
            size = checkpoint_size(
                runner, save_optimizer=saving.save_optimizer, save_param_scheduler=saving.save_param_scheduler
            )
        except EarlyExitError:
            raise
        except Exception as error:
            if not isinstance(error, StorageError):  # invalid labels may have caused the failure
                for chosen in (*sets_of(runner.train_loop), *sets_of(runner.val_loop)):
                    with suppress(Exception):
                        if labels := labels_in(chosen.dataloader):
                            labels.warn_about_invalid()
            if isinstance(error, FootplateError):
                raise
            stage, key = hook.stage
            raise (module_error(stage, error, cfg) or ComponentError(stage, error, key=key)) from error
    _check_work_dir(cfg["work_dir"], size)
    if hook.picture is not None:
        LocalVisBackend(cfg["work_dir"], img_save_dir=".").add_image(TRAINING_BATCH, hook.picture)
    return (
        runner,
        largest,
        {
            "seconds_per_iteration": hook.seconds,
            "seconds_of_waiting": hook.waiting,
            "seconds_per_validation": validating,
            "memory": gather_objects(memory_in_use(runner.device)),
            "memory_parts": parts,
            "checkpoint": size,
            "metrics": metrics,
            "picture": os.path.join(cfg["work_dir"], f"{TRAINING_BATCH}_0.png") if hook.picture is not None else "",
        },
    )


def _warn_about_missing_files(runner: Runner) -> None:
    """Warns about local files of the training and validation data that are missing or empty.

    Ignores a dataset if none of its files exist: its paths may be keys in a storage system. If they are local files,
    the trial fails on the first one anyway.
    """
    loops: list[Any] = [runner.train_loop, *sets_of(runner.val_loop)]
    for dataset in [leaf for loop in loops for leaf in innermost_datasets(dataset_of(loop.dataloader))]:
        count = min(len(dataset), _MAX_RECORDS) if isinstance(dataset, BaseDataset) else 0
        paths = dict.fromkeys(
            value
            for index in range(count)
            for key, value in dataset.get_data_info(index).items()
            if key.endswith("_path") and isinstance(value, str) and storage.is_local(value)
        )
        missing = [path for path in paths if not os.path.isfile(path) or not os.path.getsize(path)]
        if missing and len(missing) < len(paths):
            _logger.warning("Missing or empty data files: %s", list_names(missing, _MAX_FILES))


def _check_work_dir(folder: str, size: int) -> None:
    """Checks, without creating the work_dir, that it is writable and has room for a checkpoint."""
    if storage.is_local(folder):
        path = Path(folder).expanduser().absolute()
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise CheckpointError(f"'{existing}' is not a writable folder", key="work_dir", found=folder)
        check_free_space(str(existing), size, "work_dir")


def _validate(runner: Runner, hook: "_TrialHook", largest: dict[str, Largest]) -> tuple[float | None, list[str]]:
    """Validates the largest batch of each validation dataset, and adds these batches to `largest`.

    Returns the estimated validation time in seconds (None without validation) and the names of the losses and metrics
    that can be computed from a single batch.
    """
    loop: Any = runner.val_loop
    if not isinstance(loop, ValLoop):  # no validation, or a custom loop
        return None, []
    total, metrics, are_complete = 0.0, dict[str, float](), True
    _call_own_hooks(runner, hook, "before_val", "before_val_epoch")
    runner.model.eval()
    for chosen in loop.sets:
        hook.stage = "validation", "model"
        batch = largest[f"val {chosen.name}".rstrip()] = largest_batch(chosen.dataloader)
        loop.choose(chosen)
        with trial_evaluator(chosen.evaluator, dataset_of(chosen.dataloader)) as evaluator:
            with predicting(runner.device, loop.fp16, loop.inference_mode):
                begin = perf_counter()  # the preflight has predicted one batch, so this one is not the first
                samples, losses = predict_batch(runner, batch.batch)
                seconds = perf_counter() - begin
                evaluator.process(data_samples=samples, data_batch=batch.batch)
                _call_own_hooks(runner, hook, "before_val_iter", batch_idx=0, data_batch=batch.batch)
                _call_own_hooks(runner, hook, "after_val_iter", batch_idx=0, data_batch=batch.batch, outputs=samples)
            try:
                values = {name: float(losses[name]) for name in losses if "loss" in name}
                metrics |= chosen.named({**values, **evaluate_quietly(evaluator)})
            except Exception:  # some metrics need more than one batch; the preflight has reported it
                are_complete = False
        total += seconds * (length_of(chosen.dataloader) or 0)
    if are_complete:
        loop.choose(loop.sets[0])
        loop.metrics = metrics
        _call_own_hooks(runner, hook, "after_val_epoch", metrics=metrics)
        _call_own_hooks(runner, hook, "after_val")
    return total, list(metrics)


def _call_own_hooks(runner: Runner, stage: "_TrialHook", *events: str, **arguments: Any) -> None:
    """Runs RuntimeInfoHook and the user's hooks on the given events.

    Skips checkpoint hooks and footplate's other hooks, because they write files.
    """
    for event in events:
        runner.activity.event = event  # as in `Runner.call_hook`
        for hook, method in runner.hooks.at(event):
            is_builtin = is_own_module(type(hook).__module__) and not hook.is_of_user
            if isinstance(hook, RuntimeInfoHook) or not (is_builtin or isinstance(hook, CheckpointHook)):
                stage.stage = f"{type(hook).__name__}.{event}", runner.hooks.key_of(hook)
                method(runner, **arguments)
        runner.activity.event = ""


class _TrialHook(Hook):
    """Measures the time of two iterations, then stops the run. Disables validation until then.

    Attributes:
        stage: The current stage of the run, and the config key to report for errors in this stage.
        picture: A picture of the first training batch, or None.
    """

    priority = 100

    def __init__(self) -> None:
        self._done = 0  # a user's loop may count `runner.iter` differently
        self.stage = ("the trial validation before training", "model")
        self.seconds = self.waiting = 0.0
        self.picture: Any = None
        self._last = perf_counter()

    def before_train(self, runner: Run) -> None:
        """Notes that the hooks of the first epoch are next."""
        loop: Any = runner.train_loop
        loop.val_begin = MAX_RUN_LENGTH
        self.stage = ("before_train_epoch of a hook", "custom_hooks")

    def before_train_epoch(self, runner: Run) -> None:
        """Starts measuring the time spent waiting for data."""
        self.stage = ("reading the first training batch", "train_dataloader")
        self._last = perf_counter()

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Computes how long training waited for the batch. Draws the first one."""
        self.stage = (f"training iteration {self._done + 1}", "model")
        self.waiting = perf_counter() - self._last
        if not self._done:
            pictures = (extension.draw_batch(runner, data_batch) for extension in extensions())
            picture = next((picture for picture in pictures if picture is not None), None)
            # Every rank draws, because a data preprocessor may communicate.
            self.picture = picture if is_main_process() else None
        self._last = perf_counter()

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Computes how long the iteration took, and stops the run after the last iteration."""
        self.seconds, self._last = perf_counter() - self._last, perf_counter()
        self.stage = ("reading a training batch", "train_dataloader")
        self._done += 1
        if self._done == _ITERATIONS:
            raise EarlyExitError


def _describe_trial(
    runner: Runner, largest: Mapping[str, Largest], measured: Mapping[str, Any], validations: int
) -> list[str]:
    model, memory = unwrap_model(runner.model), measured["memory"]
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    rows = [("model", f"{type(model).__name__}, {total:,} parameters, {trainable:,} trainable")]
    for group in groups_in(runner.optim_wrapper, model):
        settings = ", ".join(format_setting(*each) for each in group.settings.items() if each[0] != "betas")
        reasons = f", set by {', '.join(group.reasons)}" if group.reasons else ""
        rows.append(("group", f"{group.optimizer} {settings}: {pluralize(len(group.names), 'tensor')}{reasons}"))
    peak = f"{max(memory)} MiB"
    if len(memory) > 1:
        kind = "FullyShard" if is_sharded(runner.model) else type(runner.model).__name__.removeprefix("Model")
        size = getattr(runner.train_dataloader, "batch_size", None)
        samples = f", {size} samples each and {size * get_world_size()} in total per iteration" if size else ""
        rows.append(("processes", f"{runner.world_size}, {kind} over {dist.get_backend()}{samples}"))
        peak = f"{peak} on each rank" if min(memory) == max(memory) else f"{min(memory)} to {peak} across the ranks"
    rows += [(f"{mode} data", f"{data.samples} samples, {data.description}") for mode, data in largest.items()]
    leaves = innermost_datasets(dataset_of(runner.train_dataloader))
    rows += [("filter", leaf.left_out) for leaf in leaves if getattr(leaf, "left_out", "")]
    if "train" in largest and largest["train"].labels is not None:
        rows.append(("labels", str(largest["train"].labels)))
    step, waiting = measured["seconds_per_iteration"], measured["seconds_of_waiting"]
    speed = f"{step:.3g} s per iteration, plus {waiting:.3g} s waiting for data"
    seconds, validating = runner.max_iters * (step + waiting), measured["seconds_per_validation"]
    batches = "the largest training batch"
    if validating is not None:
        batches = "the largest training and validation batches"
        speed += f", {validating:.3g} s per validation"
        seconds += validations * validating
    if "train" not in largest:
        batches = f"the first training iterations of {type(runner.train_loop).__name__}; larger batches may need more"
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in measured["memory_parts"].items())
    rows += [("", ""), ("speed", speed)]
    speed_of_data = largest["train"].speed if "train" in largest else None
    if speed_of_data is not None:
        loader: Any = runner.train_dataloader
        rows.append(("data", speed_of_data.describe(loader.num_workers)))
        batch_size = loader.batch_size or loader.batch_sampler.batch_size
        rows.append(("bottleneck", speed_of_data.describe_bottleneck(loader.num_workers, batch_size, step)))
    rows += [
        ("time", f"about {format_seconds(seconds)} in total"),
        ("memory", f"at most {peak}, with {batches}"),
        ("parts", f"of the training memory: {parts}"),
        ("size", f"{format_bytes(measured['checkpoint'])} per checkpoint"),
    ]
    if measured["metrics"]:
        rows.append(("metrics", ", ".join(measured["metrics"])))
    if measured["picture"]:
        rows.append(("picture", f"{shown_path(measured['picture'])}: the first training batch, as the model gets it"))
    return [labeled(*row).rstrip() for row in rows]
