"""Checks before a run begins whether it can save, load and validate, so that it does not fail hours later."""

import copy
import logging
import math
import secrets
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from footplate import storage
from footplate.checkpoint import load_checkpoint, save_checkpoint, split_state
from footplate.data import capture_rng, restore_rng
from footplate.distributed import is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine import state
from footplate.engine.evaluation_loops import loss_of, predicting
from footplate.engine.snapshot import Snapshot
from footplate.errors import ArgumentError, CheckpointError
from footplate.messages import format_bytes

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_IN_MEMORY = "memory://footplate-preflight/{}.pth"


def preflight(runner: "Runner") -> None:
    """Saves and loads the run once in memory, validates one batch, and checks disk space and permissions.

    Leaves no file and records no metric. Random states, buffers and attributes are restored afterwards, see `Snapshot`.

    Raises:
        FootplateError: Something of that cannot be done. What a model or a metric raises goes through.
    """
    with _restoring_state(runner):
        size = checkpoint_size(runner)
        to_come = None if is_sharded(runner.model) else state_to_come(runner.optim_wrapper)
        size += to_come or 0
        if is_main_process():
            _check_folder(runner.home, size, "work_dir")
            for hook in runner.hooks:
                if hasattr(hook, "folder_in"):
                    _check_folder(hook.folder_in(runner), size, "default_hooks.checkpoint.out_dir")
        has_validated = _validate(runner)
    has_state = any(part.optimizer.state for part in runner.optim_wrapper.parts.values())  # as in a resumed run
    _logger.info(
        "Preflight: a checkpoint takes %s%s%s.",
        format_bytes(size),
        " before the optimizer has a state" if to_come is None and not has_state else "",
        ", a batch was validated" if has_validated else "",
    )


def state_to_come(optim_wrapper: Any) -> int | None:
    """Returns by how many bytes the first step grows the optimizer state, or None if that cannot be determined.

    A copy of each optimizer takes a step on the meta device, where tensors have shapes but no data.
    """
    try:
        return sum(_growth(part.optimizer) for part in optim_wrapper.parts.values())
    except Exception:  # noqa: BLE001 - an optimizer may read values, or require a closure
        return None


def _growth(optimizer: torch.optim.Optimizer) -> int:
    if optimizer.state:
        return 0
    trial = object.__new__(type(optimizer))
    trial.__dict__.update(optimizer.__dict__)
    trial._optimizer_step_pre_hooks, trial._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
    trial.state, trial.param_groups = defaultdict(dict), []
    counts: dict[torch.Tensor, int] = {}  # how many parameters have the shape of a meta tensor
    for group in optimizer.param_groups:
        shapes = Counter((each.shape, each.dtype) for each in group["params"] if each.requires_grad)
        tensors = {torch.empty(shape, dtype=dtype, device="meta"): count for (shape, dtype), count in shapes.items()}
        for tensor in tensors:
            tensor.grad = torch.empty_like(tensor)
        counts.update(tensors)
        one_by_one: dict[str, Any] = {key: False for key in ("foreach", "fused", "capturable") if key in group}
        trial.param_groups.append({**group, **one_by_one, "params": list(tensors)})
    type(optimizer).step(trial)
    return sum(
        counts[tensor] * each.numel() * each.element_size()
        for tensor, state in trial.state.items()
        for each in state.values()
        if isinstance(each, torch.Tensor)
    )


@contextmanager
def _restoring_state(runner: "Runner") -> Iterator[None]:
    """Restores after the block what user code may have changed in it: random states, attributes, buffers, the hub."""
    random, training = capture_rng(), runner.model.training
    hub, sets = runner.message_hub, getattr(runner.val_loop, "sets", ())
    names = ("dataset", "sampler", "batch_sampler", "collate_fn")
    parts = [getattr(each.dataloader, name, None) for each in sets for name in names]
    evaluators = [each.evaluator for each in sets]
    before = Snapshot([runner.model, *runner.hooks, *evaluators, *parts, hub.runtime_info, hub.log_scalars])
    try:
        yield
    except ArgumentError:
        raise  # The setting must be corrected: without the preflight the run would only fail later.
    except Exception:
        _logger.error("Preflight: the run would have failed later. Use --no-preflight to start it nevertheless.")
        raise
    finally:
        before.restore()
        runner.model.train(training)
        restore_rng(random)


def checkpoint_size(runner: "Runner", *, save_optimizer: bool = True, save_param_scheduler: bool = True) -> int:
    """Returns the size of a checkpoint in bytes. Saves and loads it in memory; the size of shards is only computed.

    If the model is sharded, all ranks must call this function. Otherwise only the first rank saves, and the others
    return 0.

    Args:
        runner: The runner.
        save_optimizer: Whether the checkpoint includes the optimizer state.
        save_param_scheduler: Whether the checkpoint includes the state of the schedules.

    Raises:
        CheckpointError: The checkpoint loses something.
    """
    if not is_main_process() and not is_sharded(runner.model):
        return 0
    checkpoint = state.capture(runner, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler)
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    checkpoint, parts = split_state(checkpoint)
    path = _IN_MEMORY.format(f"{runner.timestamp}-{runner.rank}")
    try:
        save_checkpoint(checkpoint, path)
        read = load_checkpoint(path)
        size = storage.status(path).size
    finally:
        storage.remove(path)
    lost = [key for key in checkpoint if key not in read]
    if lost:
        raise CheckpointError(f"a checkpoint loses '{lost[0]}' when it is saved and loaded")
    return size + sum(math.prod(each.size) * each.tensor.element_size() for each in parts.values())


def _check_folder(folder: str, size: int, key: str) -> None:
    probe = storage.join(folder, f".preflight.{secrets.token_hex(8)}")  # cannot be the name of an existing file
    try:
        storage.commit_bytes(probe, b"footplate")
        storage.remove(probe)
    except (OSError, ImportError, ValueError) as error:  # the last two for an unknown protocol
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot write to '{folder}': {reason}", key=key) from error
    free = storage.free_space(folder)
    if free is not None and free < size:
        raise CheckpointError(
            f"a checkpoint takes {format_bytes(size)}, and {format_bytes(free)} are free in '{folder}'", key=key
        )


def _validate(runner: "Runner") -> bool:
    """Validates the first batch of each dataset with copies of the metrics. Returns False if no dataset has one."""
    results = [(each, _metrics_of_one_batch(runner, each)) for each in getattr(runner.val_loop, "sets", ())]
    if all(names for _, names in results):
        metrics = [name for each, names in results for name in each.named(dict.fromkeys(names or ()))]
        schedules = runner.param_schedulers
        lists = schedules.values() if isinstance(schedules, Mapping) else [schedules]
        for part in [*runner.hooks, *(schedule for each in lists for schedule in each or ())]:
            if hasattr(part, "check_metrics"):
                part.check_metrics(metrics)
    return any(names is not None for _, names in results)


def _metrics_of_one_batch(runner: "Runner", chosen: Any) -> list[str] | None:
    """Returns the metric names of a dataset: empty if one batch is not enough to know them, None without a batch."""
    loader = chosen.dataloader
    if hasattr(loader, "peek"):
        batch = loader.peek()
    else:
        batch = loader[0] if isinstance(loader, (list, tuple)) and loader else None
    if batch is None:
        return None
    loop, evaluator = runner.val_loop, copy.deepcopy(chosen.evaluator)
    evaluator.set_context(is_trial=True)
    runner.model.eval()
    with predicting(loop, runner.device):
        samples = (loop.predictor or runner.model).val_step(batch)  # type: ignore[union-attr]
        losses = loss_of(runner.model, batch) if loop.loss else {}  # type: ignore[union-attr]
        evaluator.process(data_samples=samples, data_batch=batch)
    if runner.world_size > 1:
        return []
    logger = logging.getLogger("footplate")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))  # the values of metrics mean nothing before training
    try:
        metrics = evaluator.evaluate(len(samples))
    except ArgumentError:  # independent of the number of batches
        raise
    except Exception as error:  # some metrics need more than one batch, but a missing file stays missing
        if isinstance(error.__cause__, FileNotFoundError):
            raise
        _logger.warning(
            "Preflight: computing the metrics of a single batch failed: %s: %s", type(error).__name__, error
        )
        return []
    finally:
        logger.setLevel(level)
    return [*(name for name in losses if "loss" in name), *metrics]
