"""Checks before the first step that a run can save, load and validate."""

import contextlib
import copy
import io
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from footplate import storage
from footplate.checkpoint import load_checkpoint, save_checkpoint, split_state
from footplate.data import dataset_of, metainfo_of
from footplate.data.dataloader_checks import check_has_batches
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.distributed import compute_on_main, get_rank, get_world_size, is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine.control.module_state import record_forward_state
from footplate.engine.loops.evaluation_loops import add_sample_note, loss_of, merge_results, predicting
from footplate.engine.loops.loop_run import LoopRun
from footplate.engine.saving import state
from footplate.engine.saving.participants import Parts
from footplate.engine.values.run import Run
from footplate.error_context import at_key
from footplate.errors import ArgumentError, CheckpointError, DataError, FootplateError
from footplate.evaluation import Evaluator, TorchMetric
from footplate.evaluation.evaluation_sets import EvaluationSet, check_classes
from footplate.evaluation.evaluator import returned_numbers
from footplate.interrupts import temporary_folder
from footplate.messages import format_bytes
from footplate.optim.schedules import collect_steps

_logger = logging.getLogger("footplate.engine")
_IN_MEMORY = "memory://footplate-preflight/{}.pth"


class SavableRun(LoopRun, Protocol):
    """A run, with what a checkpoint of it contains."""

    @property
    def parts(self) -> Parts:
        """The parts of the run that a checkpoint contains."""

    @property
    def checkpoint_meta(self) -> dict[str, Any]:
        """The metadata that identify the run in its checkpoints."""


def preflight(runner: SavableRun) -> None:
    """Saves and loads a checkpoint in memory, validates on a batch per dataset, and checks disk space and permissions.

    Warns about label maps that are likely wrong, and about classes that differ. Leaves no files and records no metrics.
    Restores the random state and the model's buffers and plain attributes (numbers, bools, strings, None, tensors).
    Skips models with uninitialized parameters.

    Raises:
        FootplateError: The run cannot save, load or validate. Errors that the model raises are not wrapped. A metric
            that cannot be computed from a single batch only causes a warning.
    """
    if any(map(is_lazy, [*runner.model.parameters(), *runner.model.buffers()])):  # a forward pass initializes them
        _logger.warning(
            "Preflight: skipped, because the model has uninitialized parameters. To run it, call the model on a batch "
            "before you create the Runner."
        )
        return
    with _restoring_state(runner):
        size = checkpoint_size(runner)
        missing: list[int | None] = []  # of the optimizer state
        if any(getattr(hook, "save_optimizer", True) for hook in runner.hooks.saving):
            missing = [_bytes_of_first_step(part.optimizer) for part in runner.optim_wrapper.parts.values()]
        size += sum(filter(None, missing))
        compute_on_main(lambda: _check_folders(runner, size))
        compute_on_main(lambda: _check_labels(runner))
        with runner.phase("preflight"):
            metrics = [_metrics_of_one_batch(runner, chosen) for chosen in _validation_sets(runner)]
        if metrics and all(metrics):  # otherwise, some metrics are unknown
            names = [name for of_set in metrics for name in of_set]
            # Check that validation computes the metrics that hooks and schedules need.
            for part in [*runner.hooks, *collect_steps(runner.param_schedulers).by_metrics]:
                try:
                    part.check_metrics(names)
                except FootplateError as error:
                    runner.hooks.prepend_key(error, part)
                    raise
            runner.history.known_metrics.update(names)
    rest = ", plus the optimizer state" if None in missing else ""
    _logger.info("Preflight: each checkpoint will take about %s%s.", format_bytes(size), rest)


def _bytes_of_first_step(optimizer: Optimizer) -> int | None:
    """Returns the size of the state that the first step will create, or None if it cannot be computed."""
    try:
        if optimizer.state:
            return 0
        copies: dict[int, Any] = {}  # weights without memory
        for group in optimizer.param_groups:
            for weight in group["params"]:
                copies[id(weight)] = copied = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
                if weight.requires_grad:
                    copied.grad = torch.empty_like(copied.requires_grad_())
        trial = copy.deepcopy(optimizer, copies)
        for group in trial.param_groups:
            group.update({name: False for name in ("capturable", "fused") if group.get(name)})
        trial.step()
        return sum(value.nbytes for state in trial.state.values() for value in state.values() if torch.is_tensor(value))
    except Exception:  # for example, because the step reads values
        return None


def _validation_sets(runner: Run) -> Sequence[EvaluationSet]:
    return runner.val_loop.sets if runner.val_loop else ()


def _check_folders(runner: Run, size: int) -> None:
    """Checks that the run's checkpoint folders are writable and have enough space.

    Raises:
        CheckpointError: A folder is not writable or does not have enough space.
    """
    folders = {runner.folder.home: "work_dir"}
    for hook in runner.hooks.saving:
        folders.setdefault(hook.folder_in(runner), "default_hooks.checkpoint.out_dir")
    for folder, key in folders.items():
        try:
            storage.check_writable(folder)
        except (OSError, ImportError, ValueError) as error:  # the last two are raised for unknown protocols
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"cannot write to '{folder}': {reason}", key=key) from error
        check_free_space(folder, size, key)


def _check_labels(runner: Run) -> None:
    loaders = [runner.train_loop.dataloader, *(chosen.dataloader for chosen in _validation_sets(runner))]
    for loader in loaders:
        for dataset in innermost_datasets(dataset_of(loader)):
            if hasattr(dataset, "warn_about_labels"):
                dataset.warn_about_labels()
    trained = runner.train_loop.dataloader
    check_classes(metainfo_of(trained), _validation_sets(runner), "validation", train_dataset=dataset_of(trained))


@contextmanager
def _restoring_state(runner: Run) -> Iterator[None]:
    """Undoes the side effects of validation and saving at the end of the block.

    Restores the random state, the message hub, the model's buffers, and all module attributes that are numbers, bools,
    strings or None.
    """
    hub = runner.message_hub
    restore = record_forward_state(runner.model)
    records: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (mapping, dict(mapping)) for mapping in (hub.runtime_info, hub.log_scalars)
    ]
    try:
        yield
    except (ArgumentError, DataError):
        raise  # Do not suggest --no-preflight for a wrong setting or data: the run would fail later anyway.
    except Exception:
        _logger.error("Preflight: the check failed. To skip it, use --no-preflight (preflight=False).")
        raise
    finally:
        for mapping, content in records:
            mapping.clear()
            mapping.update(content)
        restore()


def checkpoint_size(runner: SavableRun, *, save_optimizer: bool = True, save_param_scheduler: bool = True) -> int:
    """Saves and loads a checkpoint in memory, and returns its size in bytes.

    If the model is sharded, all ranks must call this function. The size of the shards is computed without saving them.
    Otherwise, only rank 0 saves, and the other ranks return 0.

    Args:
        runner: The runner.
        save_optimizer: Whether the checkpoint includes the optimizer state.
        save_param_scheduler: Whether the checkpoint includes the state of the schedules.

    Raises:
        CheckpointError: The checkpoint cannot be saved or loaded.
    """
    if not is_main_process() and not is_sharded(runner.model):
        return 0
    checkpoint = state.collect(
        runner.parts, runner.checkpoint_meta, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler
    )
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    checkpoint, parts = split_state(checkpoint)
    path = _IN_MEMORY.format(f"{runner.folder.timestamp}-{get_rank()}")
    try:
        save_checkpoint(checkpoint, path)
        load_checkpoint(path)
        size = storage.status(path).size
    finally:
        storage.remove(path)
    return size + sum(math.prod(part.size) * part.tensor.element_size() for part in parts.values())


def check_free_space(folder: str, size: int, key: str) -> None:
    """Checks that a folder has enough free space for a checkpoint.

    Raises:
        CheckpointError: There is not enough free space. The error refers to the config key `key`.
    """
    free = storage.free_space(folder)
    if free is not None and free < size:
        raise CheckpointError(
            f"a checkpoint needs {format_bytes(size)}, but only {format_bytes(free)} is free in '{folder}'", key=key
        )


@contextmanager
def trial_evaluator(evaluator: Evaluator, dataset: Any = None) -> Iterator[Evaluator]:
    """Yields a copy of an evaluator whose metrics write to a temporary folder.

    Args:
        evaluator: The evaluator.
        dataset: The evaluator's dataset, which is not copied even if metrics refer to it.
    """
    with temporary_folder("footplate-trial-") as folder:
        trial = copy.deepcopy(evaluator, {id(dataset): dataset})
        trial.reset()
        trial.set_context(folder=folder, is_trial=True)
        yield trial


def evaluate_quietly(evaluator: Evaluator) -> dict[str, Any]:
    """Computes metrics from the samples processed so far, without printing or logging.

    Many metrics print tables, which are meaningless before training, and log errors if there are no predictions.
    """
    outer = logging.root.manager.disable
    logging.disable(max(outer, logging.ERROR))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluator.evaluate(sys.maxsize)
    finally:
        logging.disable(outer)


def predict_batch(runner: Run, batch: Any) -> tuple[Any, Mapping[str, Any]]:
    """Returns the predictions for a batch, and the losses if validation reports them. Call it inside `predicting`."""
    loop: Any = runner.val_loop
    samples = (loop.predictor or runner.model).val_step(batch)
    return samples, loss_of(runner.model, batch) if loop.loss else {}


def _warn_about_unused_numbers(evaluator: Evaluator, samples: Any, batch: Any) -> None:
    """Warns if the predictions are numbers, but the only metrics are objects, which often ignore the predictions."""
    numbers = returned_numbers(samples, batch, required=False)
    if numbers and evaluator.metrics and all(isinstance(metric, TorchMetric) for metric in evaluator.metrics):
        _logger.warning(
            "The numbers that validation_step returns (%s) are not recorded, because val_evaluator is set. To record "
            "one, add a function to val_evaluator, such as {'%s': lambda numbers, batch: numbers['%s']}.",
            ", ".join(numbers),
            *2 * list(numbers)[:1],
        )


def _metrics_of_one_batch(runner: Run, chosen: EvaluationSet) -> list[str]:
    """Evaluates the first batch of a dataset and returns the names of the metrics.

    Returns an empty list if any metric cannot be computed from one batch, or if reading a batch has side effects.
    """
    loop: Any = runner.val_loop
    loader = chosen.dataloader
    key = f"val_dataloader.{chosen.name}".rstrip(".")
    with at_key(key):
        check_has_batches(loader, "validation")
    if not (hasattr(loader, "peek") or isinstance(loader, (list, tuple))):
        return []
    batch = loader.peek() if hasattr(loader, "peek") else loader[0]
    runner.model.eval()
    with trial_evaluator(chosen.evaluator, dataset_of(loader)) as evaluator:
        try:
            with predicting(runner.device, loop.fp16, loop.inference_mode):
                samples, losses = predict_batch(runner, batch)
                evaluator.process(data_samples=samples, data_batch=batch)
        except Exception as error:
            add_sample_note(error, loader, key, 0, batch)
            raise
        _warn_about_unused_numbers(evaluator, samples, batch)
        if get_world_size() > 1:
            return []
        try:
            metrics = evaluate_quietly(evaluator)
        except (ArgumentError, ImportError):  # do not depend on the number of batches
            raise
        except Exception as error:  # some metrics need more than one batch, but a missing file stays missing
            if isinstance(error.__cause__, FileNotFoundError):
                raise
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            _logger.warning("Preflight: computing the metrics on a single batch failed: %s", reason)
            return []
    return list(
        chosen.named(merge_results(chosen.evaluator, {name: 0.0 for name in losses if "loss" in name}, metrics))
    )
