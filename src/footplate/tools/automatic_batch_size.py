"""Finds the largest batch size that fits into memory, for `train_dataloader.batch_size='auto'`."""

import multiprocessing
import os
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from textwrap import shorten
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]
import torch
from rich.console import Console

from footplate.config import Config
from footplate.config.key_paths import merge_options
from footplate.data import length_of
from footplate.distributed import gather_objects
from footplate.distributed.process_group import find_rank_info
from footplate.engine import Runner
from footplate.engine.checking.plan import second_generation
from footplate.engine.running import process_setup
from footplate.error_context import located
from footplate.errors import ArgumentError, FootplateError, Origin
from footplate.interrupts import temporary_folder
from footplate.messages import describe_exception
from footplate.records import memory_in_use
from footplate.tools.memory_use import largest_batch
from footplate.tools.run_files import config_of
from footplate.tools.trial import StopHook, build_trial, train_until_stopped

_AUTO = "auto"
_SIZE = "train_dataloader.batch_size"
_SMALLEST = 2  # one sample is too few for batch normalization
_MAX_REASON = 110  # characters; PyTorch lists how the memory is used
_SHARE = 0.85  # of the free memory; the rest is for workers, saves and fragmentation


def with_smallest_size(cfg: Config) -> Config:
    """Returns a config in second-generation form with the smallest batch size to try, which is 2."""
    return _with_size(second_generation(cfg), _SMALLEST)


def choose_batch_size(cfg: Config, **start: Any) -> tuple[Config, str]:
    """Replaces `train_dataloader.batch_size='auto'` with the largest batch size that fits into memory.

    A separate process trains on the largest samples of the dataset, and doubles the batch size until a trial fails,
    memory is nearly full, or a batch contains the whole dataset. A resumed run uses its recorded batch size. Every rank
    must call this function before the process group is created.

    `cfg` may be of either generation. `start` overrides the config's `resume` and `load_from`.

    Returns:
        The second-generation config and a sentence for the log.

    Raises:
        ArgumentError: A trial with the smallest batch fails.
        FootplateError: The run cannot be built.
    """
    cfg = second_generation(cfg)
    with located(cfg):
        recorded = _recorded_size({**cfg, **start})
        # Fork before connecting the ranks: a forked process cannot use the threads and device contexts of a connection.
        trial = (recorded, "as in the resumed run") if recorded else _try_in_process(cfg)
        process_setup.prepare(cfg.get("env_cfg") or {}, launcher=cfg.get("launcher") or "none")
        trials = gather_objects((recorded, trial))
        # Only the machine of rank 0 may have the record of the run to resume.
        size, reason = trials[0][1] if trials[0][0] else min(trial for _, trial in trials)
        processes = f" x {len(trials)} processes" if len(trials) > 1 else ""
        return _with_size(cfg, size), f"batch_size='auto': {size} samples{processes} ({reason})"


def _with_size(cfg: Config, size: int) -> Config:
    changed = Config(cfg)
    merge_options(changed._cfg_dict, {_SIZE: size}, origin=Origin("batch_size='auto'", 0))
    return changed


def _recorded_size(cfg: Mapping[str, Any]) -> int | None:
    """Returns the batch size recorded next to the checkpoint, or in the work_dir, if a run is resumed.

    Returns None for a new run, or if nothing is recorded.
    """
    if not cfg.get("resume") and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    checkpoint = cfg.get("resume") is True and cfg.get("load_from")
    recorded = config_of(Path(checkpoint).parent if checkpoint else Path(cfg["work_dir"]))
    loader = None if recorded is None else recorded.get("train_dataloader")
    size = loader.get("batch_size") if isinstance(loader, Mapping) else None
    return size if isinstance(size, int) else None


def _try_in_process(cfg: Config) -> tuple[int, str]:
    """Finds the largest batch size that fits into memory.

    Uses a separate process, which may be killed if memory runs out.

    Returns:
        The size, and the reason why larger sizes were not used.

    Raises:
        FootplateError: The run cannot be built, or a trial with the smallest batch fails.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    size, reason = 0, ""
    with temporary_folder("footplate-batch-") as folder, Console(stderr=True).status("Trying batch sizes"):
        process = context.Process(target=_try_sizes, args=(cfg, folder, sender), daemon=True)
        process.start()
        sender.close()
        try:
            with suppress(EOFError):  # the process has ended
                while True:
                    size, reason, error = receiver.recv()
                    if error is not None:
                        raise error
        finally:
            process.kill()  # after a signal, the process must not write to the folder while it is removed
            process.join()
    reason = reason or f"larger batches fail: the process ended with exit code {process.exitcode}"
    if not size:
        notes = [f"If memory ran out, set {_SIZE}=1, or use a smaller model or `activation_checkpointing`."]
        message = f"a trial with {_SMALLEST} samples per batch fails: {reason.removeprefix('larger batches fail: ')}"
        raise ArgumentError(message, key=_SIZE, found=_AUTO, notes=notes)
    return size, reason


def _try_sizes(cfg: Config, folder: str, results: Connection) -> None:
    """Doubles the batch size until a batch no longer fits into memory.

    Sends each size that fits, and the reason for stopping once it is known, to `results`.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)  # the actual run prints the same output
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    fitting = 0
    try:
        ranks = find_rank_info(cfg.get("launcher") or "none")
        runner = _train_briefly(cfg, folder, ranks.local_rank if ranks else 0)
        loader: Any = runner.train_dataloader
        count = length_of(loader.dataset)
        if count is None:
            raise ArgumentError("batch_size='auto' needs a dataset with a length", key="train_dataloader.dataset")
        limit = max(count // (ranks.world_size if ranks else 1), 1)
        before, free = memory_in_use(runner.device), psutil.virtual_memory().available >> 20  # MiB
        size, reason = _SMALLEST, ""
        while not reason:
            size = min(size, limit)
            source = SimpleNamespace(dataset=loader.dataset, collate_fn=loader.collate_fn, batch_size=size)
            batch = largest_batch(source).batch
            for _ in range(2):
                runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            if runner.device.type != "cpu":
                torch.accelerator.synchronize()
            elif 2 * (memory_in_use(runner.device) - before) > _SHARE * free:
                reason = f"larger batches would use more than {_SHARE:.0%} of the free memory"
            fitting = size
            reason = "the whole dataset" if size == limit else reason
            results.send((fitting, reason, None))
            size *= 2
    except FootplateError as error:
        results.send((0, "", error))
    except BaseException as error:  # noqa: BLE001 - sent to the parent process
        reason = f"larger batches fail: {describe_exception(error)}"
        results.send((fitting, shorten(reason, _MAX_REASON, placeholder=" ..."), None))
    finally:
        os._exit(0)  # the cleanup of a normal exit would need memory


def _train_briefly(cfg: Config, folder: str, local_rank: int) -> Runner:
    """Builds a single-process run, and trains for two iterations to create weight averages and optimizer state."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        free, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(_SHARE * free / total)
    os.environ.pop("RANK", None)  # this process runs alone
    # A daemon cannot start workers.
    loader = {**cfg["train_dataloader"], "batch_size": _SMALLEST, "num_workers": 0, "persistent_workers": False}
    loader.pop("prefetch_factor", None)
    runner = build_trial(
        cfg,
        folder,
        load_from=None,
        launcher="none",
        log_level="ERROR",
        preflight=False,
        model_wrapper_cfg=None,
        auto_scale_lr=None,
        train_dataloader=loader,
    )
    train_until_stopped(runner, StopHook(2))
    return runner
