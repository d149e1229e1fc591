"""Checks that a run can save, load and validate before it begins, so that it does not fail hours later."""

import contextlib
import copy
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.checkpoint import load_checkpoint, save_checkpoint, split_state
from footplate.data import metainfo_of
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.distributed import is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine import state
from footplate.engine.evaluation_loops import loss_of, predicting
from footplate.engine.module_state import record_modules
from footplate.errors import ArgumentError, CheckpointError, FootplateError
from footplate.evaluation import Evaluator
from footplate.evaluation.evaluation_sets import EvaluationSet, check_classes, warn_about_num_classes
from footplate.interrupts import temporary_folder
from footplate.messages import format_bytes
from footplate.optim.schedules import collect_steps

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_IN_MEMORY = "memory://footplate-preflight/{}.pth"


def preflight(runner: "Runner") -> None:
    """Saves and loads the run once in memory, validates one batch, and checks disk space and permissions.

    Warns about label maps that are likely wrong, about labels whose classes differ between the datasets, and about
    models with a different number of classes. It leaves no files and records no metrics. Random states, buffers and
    plain attributes of modules are restored afterwards.

    Raises:
        FootplateError: The run cannot save, load or validate. Errors of the model and of metrics are not wrapped.
    """
    with _restoring_state(runner):
        size = checkpoint_size(runner)
        if is_main_process():
            _check_folders(runner, size)
            _check_labels(runner)
        with runner.phase("preflight"):
            metrics = [_metrics_of_one_batch(runner, chosen) for chosen in _validation_sets(runner)]
        if metrics and all(metrics):  # otherwise the metrics of some dataset are unknown
            _check_monitored(runner, [name for names in metrics for name in names])
    _logger.info("Preflight: a checkpoint takes %s before the first step.", format_bytes(size))


def _validation_sets(runner: "Runner") -> Sequence[EvaluationSet]:
    return getattr(runner.val_loop, "sets", ())  # a user's loop may lack them


def _check_folders(runner: "Runner", size: int) -> None:
    """Checks that checkpoints can be written to the folders of the run.

    Raises:
        CheckpointError: A folder is not writable, or has too little space.
    """
    folders = {runner.folder.home: "work_dir"}
    for hook in runner.hooks:
        if folder := hook.folder_in(runner):
            folders.setdefault(folder, "default_hooks.checkpoint.out_dir")
    for folder, key in folders.items():
        try:
            storage.check_writable(folder)
        except (OSError, ImportError, ValueError) as error:  # the last two for an unknown protocol
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"cannot write to '{folder}': {reason}", key=key) from error
        check_free_space(folder, size, key)


def _check_labels(runner: "Runner") -> None:
    loaders = [runner.train_dataloader, *(chosen.dataloader for chosen in _validation_sets(runner))]
    for loader in loaders:
        for dataset in innermost_datasets(getattr(loader, "dataset", None)):
            if hasattr(dataset, "warn_about_labels"):
                dataset.warn_about_labels()
    trained = metainfo_of(runner.train_dataloader)
    check_classes(trained, _validation_sets(runner), "validation")
    warn_about_num_classes(runner.cfg, trained)


def _check_monitored(runner: "Runner", metrics: list[str]) -> None:
    """Checks that a validation computes the metrics that hooks and schedules wait for."""
    for part in [*runner.hooks, *collect_steps(runner.param_schedulers).by_metrics]:
        try:
            part.check_metrics(metrics)
        except FootplateError as error:
            runner.hooks.locate(error, part)
            raise


@contextmanager
def _restoring_state(runner: "Runner") -> Iterator[None]:
    """Restores what a validation and a save change, after the block.

    These are the random states, the message hub, the buffers of the model, and the numbers, flags and strings that are
    attributes of its modules.
    """
    hub, restore = runner.message_hub, record_modules(runner.model)
    records: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (mapping, dict(mapping)) for mapping in (hub.runtime_info, hub.log_scalars)
    ]
    try:
        yield
    except ArgumentError:
        raise  # The setting must be corrected: without the preflight the run would only fail later.
    except Exception:
        _logger.error("Preflight: the run would have failed later. To skip it, use --no-preflight (preflight=False).")
        raise
    finally:
        for mapping, content in records:
            mapping.clear()
            mapping.update(content)
        restore()


def checkpoint_size(runner: "Runner", *, save_optimizer: bool = True, save_param_scheduler: bool = True) -> int:
    """Returns the size of a checkpoint in bytes, after saving and loading it in memory.

    Shards are not saved; their size is computed.

    If the model is sharded, all ranks must call this function. Otherwise only the first rank saves, and the others
    return 0.

    Args:
        runner: The runner.
        save_optimizer: Whether the checkpoint includes the optimizer state.
        save_param_scheduler: Whether the checkpoint includes the state of the schedules.

    Raises:
        CheckpointError: The checkpoint cannot be saved or loaded.
    """
    if not is_main_process() and not is_sharded(runner.model):
        return 0
    checkpoint = state.capture(runner, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler)
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    checkpoint, parts = split_state(checkpoint)
    path = _IN_MEMORY.format(f"{runner.timestamp}-{runner.rank}")
    try:
        save_checkpoint(checkpoint, path)
        load_checkpoint(path)
        size = storage.status(path).size
    finally:
        storage.remove(path)
    return size + sum(math.prod(each.size) * each.tensor.element_size() for each in parts.values())


def check_free_space(folder: str, size: int, key: str) -> None:
    """Checks that there is enough space for a checkpoint in a folder.

    Raises:
        CheckpointError: The checkpoint does not fit. The error has the config key `key`.
    """
    free = storage.free_space(folder)
    if free is not None and free < size:
        raise CheckpointError(
            f"a checkpoint takes {format_bytes(size)}, but only {format_bytes(free)} are free in '{folder}'", key=key
        )


@contextmanager
def trial_evaluator(evaluator: Evaluator, dataset: Any = None) -> Iterator[Evaluator]:
    """Yields a copy of an evaluator. The metrics of the copy write their files to a temporary folder.

    Args:
        evaluator: The evaluator.
        dataset: The dataset of the evaluator. Metrics may refer to it, but it is not copied.
    """
    with temporary_folder("footplate-trial-") as folder:
        trial = copy.deepcopy(evaluator, {id(dataset): dataset})
        trial.set_context(folder=folder, is_trial=True)
        yield trial


def evaluate_quietly(evaluator: Evaluator, size: int) -> dict[str, Any]:
    """Returns metrics without their output, because their values are meaningless before training.

    The metrics of code bases print tables, and log errors if there are no predictions.
    """
    outer = logging.root.manager.disable
    logging.disable(max(outer, logging.ERROR))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluator.evaluate(size)
    finally:
        logging.disable(outer)


def predict_batch(runner: "Runner", batch: Any) -> tuple[Any, Mapping[str, Any]]:
    """Returns the predictions for a batch and, if the validation loop reports them, the losses."""
    loop: Any = runner.val_loop  # a user's loop may lack the attributes
    with predicting(loop, runner.device):
        samples = (getattr(loop, "predictor", None) or runner.model).val_step(batch)
        return samples, loss_of(runner.model, batch) if getattr(loop, "loss", False) else {}


def _metrics_of_one_batch(runner: "Runner", chosen: EvaluationSet) -> list[str]:
    """Validates the first batch of a dataset and returns the names of the metrics.

    The list is empty if one batch is not enough to determine them, or if it cannot be read without side effects.
    """
    loader = chosen.dataloader
    if hasattr(loader, "peek"):
        batch = loader.peek()
    else:
        batch = loader[0] if isinstance(loader, (list, tuple)) and loader else None
    if batch is None:
        return []
    runner.model.eval()
    with trial_evaluator(chosen.evaluator, getattr(loader, "dataset", None)) as evaluator:
        samples, losses = predict_batch(runner, batch)
        with predicting(runner.val_loop, runner.device):
            evaluator.process(data_samples=samples, data_batch=batch)
        if runner.world_size > 1:
            return []
        try:
            metrics = evaluate_quietly(evaluator, len(samples))
        except ArgumentError:  # independent of the number of batches
            raise
        except Exception as error:  # some metrics need more than one batch, but a missing file stays missing
            if isinstance(error.__cause__, FileNotFoundError):
                raise
            _logger.warning(
                "Preflight: computing the metrics of a single batch failed: %s: %s", type(error).__name__, error
            )
            return []
    names = [*(name for name in losses if "loss" in name), *metrics]
    return list(chosen.named(dict.fromkeys(names, 0.0)))
