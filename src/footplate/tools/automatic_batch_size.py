"""Finds the largest batch size that fits into memory, for `train_dataloader.batch_size='auto'`."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch.utils.data import IterableDataset

from footplate import storage
from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.config.key_paths import merge_options
from footplate.data.sample_cache import free_memory
from footplate.distributed import gather_objects
from footplate.distributed.fully_shard import FullyShard
from footplate.distributed.process_group import find_rank_info
from footplate.engine import Hook, Runner, process_setup
from footplate.engine.components import counts_epochs
from footplate.engine.run_config import check_config, runner_config
from footplate.engine.signals import EarlyExitError
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, FootplateError, Origin
from footplate.interrupts import temporary_folder
from footplate.optim.wrapper_builder import base_batch_size
from footplate.registry import MODEL_WRAPPERS
from footplate.tools.failing_module import is_out_of_memory
from footplate.tools.memory_use import bytes_of, largest_batch, state_bytes, tensors_in
from footplate.tools.partial_build import build_trial
from footplate.tools.run_files import config_of

_AUTO = "auto"
_SIZE, _COUNT = "train_dataloader.batch_size", "optim_wrapper.accumulative_counts"
_FIRST_GENERATION = ("data.samples_per_gpu", "data.train_dataloader.samples_per_gpu")
_PR_SET_PDEATHSIG = 1  # from prctl.h of Linux
_SMALLEST = 2  # one sample is too few for batch normalization
_SHARE = 0.85  # of the free memory; the rest is for the threads of a run and for fragmentation


class _Trial(NamedTuple):
    """The result of a trial."""

    size: int  # the largest batch size that fits, or 0
    reason: str  # why larger ones were not used
    failure: FootplateError | None  # an error other than a lack of memory


def is_automatic(cfg: Config) -> bool:
    """Checks whether a config of either generation has the batch size "auto"."""
    return any(_value(cfg, path) == _AUTO for path in (_SIZE, *_FIRST_GENERATION))


def without_automatic_size(cfg: Config) -> Config:
    """Returns the given config or, if its batch size is "auto", a second-generation config with the smallest size."""
    return _with(runner_config(cfg), {_SIZE: _SMALLEST}) if is_automatic(cfg) else cfg


def choose_batch_size(cfg: Config) -> tuple[Config, str]:
    """Replaces `train_dataloader.batch_size='auto'` with the largest batch size that fits into memory.

    A separate process trains on the largest samples of the dataset to find the size. With
    `auto_scale_lr.base_batch_size`, every optimizer step still uses that number of samples: the batch size is a divisor
    of the samples per process, and gradients are accumulated. A resumed run uses its recorded batch size. Every rank
    must call this function before the process group is created.

    Args:
        cfg: A config of either generation.

    Returns:
        The second-generation config with the batch size, and a sentence for the log. If the batch size is not "auto",
        the given config and "".

    Raises:
        ArgumentError: Not even the smallest batch fits, or the config sets keys that conflict with an automatic size.
        FootplateError: The run cannot be built.
    """
    if not is_automatic(cfg):
        return cfg, ""
    cfg = runner_config(cfg)
    with located(cfg):
        check_config(_with(cfg, {_SIZE: _SMALLEST}), built_next=True)
        _check(cfg)
        launcher = cfg.get("launcher") or "none"
        ranks = find_rank_info(launcher)
        world, base = ranks.world_size if ranks else 1, _value(cfg, "auto_scale_lr.base_batch_size")
        if base is not None and base % world:
            raise ArgumentError(
                f"{world} processes cannot share {base} samples evenly",
                key="auto_scale_lr.base_batch_size",
                found=base,
                notes=["Use a number of processes that divides base_batch_size."],
            )
        recorded = _recorded_size(cfg)
        # Fork before the ranks are connected: a forked process cannot use their threads and device contexts.
        trial = _Trial(recorded, "", None) if recorded else _try_in_process(cfg, world, base)
        process_setup.prepare(cfg.get("env_cfg") or {}, launcher=launcher)
        trials = gather_objects((recorded, trial))
        recorded = trials[0][0]  # only the machine of rank 0 may have the record
        results = [each for _, each in trials]
        if recorded:
            values, note = _settings(cfg, recorded, world, base)
            return _with(cfg, values), f"batch_size='auto': the batch size recorded in the work_dir is used. {note}"
        failure = next((each.failure for each in results if each.failure), None)
        if failure is not None:
            raise failure
        size, reason, _ = min(results, key=lambda each: each.size)
        if not size:
            raise ArgumentError(
                f"batches of {_SMALLEST} samples do not fit into memory: {reason}",
                key=_SIZE,
                found=_AUTO,
                notes=["Set batch_size=1, or use a smaller model or `activation_checkpointing`."],
            )
        values, note = _settings(cfg, size, world, base)
        return _with(cfg, values), f"batch_size='auto': {note} Limit: {reason.rstrip('.')}."


def _value(cfg: Any, path: str) -> Any:
    for key in path.split("."):
        cfg = cfg.get(key) if isinstance(cfg, (Mapping, Config)) else None
    return cfg


def _with(cfg: Config, values: Mapping[str, Any]) -> Config:
    changed = Config(cfg, cfg.text, cfg.filename, cfg.env_variables)
    for path, value in values.items():
        merge_options(changed._cfg_dict, {path: value}, origin=Origin("batch_size='auto'", 0))
    return changed


def _check(cfg: Config) -> None:
    """Raises an error if an automatic batch size cannot be used with the config."""
    if sys.platform != "linux":
        raise ArgumentError("batch_size='auto' needs Linux", key=_SIZE, found=_AUTO)
    if _value(cfg, "train_dataloader.batch_sampler") is not None:
        raise ArgumentError("batch_size='auto' does not support batch samplers", key="train_dataloader.batch_sampler")
    wrapper = cfg.get("model_wrapper_cfg") or {}
    if "type" in wrapper and MODEL_WRAPPERS.resolve(wrapper["type"], wrapper) is FullyShard:
        raise ArgumentError(
            "batch_size='auto' does not support sharded models",
            key="model_wrapper_cfg.type",
            found=wrapper["type"],
            notes=["Set the batch size. `footplate plan` estimates the memory."],
        )
    with at_key("auto_scale_lr"):
        base = _value(cfg, "auto_scale_lr.base_batch_size")
        if base is None:
            return
        base_batch_size({**cfg["auto_scale_lr"], "enable": True})
    if "optimizer" not in (cfg.get("optim_wrapper") or {}):
        raise ArgumentError(
            "batch_size='auto' supports gradient accumulation only with a single optimizer",
            key="optim_wrapper",
            notes=["Remove auto_scale_lr.base_batch_size, or set the batch size."],
        )
    given = _value(cfg, _COUNT)
    if given not in (None, 1):
        raise ArgumentError(
            f"{_COUNT} cannot be set together with batch_size='auto', which determines it",
            key=_COUNT,
            found=given,
            notes=[f"Remove {_COUNT}."],
        )


def _recorded_size(cfg: Config) -> int:
    """Returns the batch size of the run to resume, or 0 if a new run starts.

    Raises:
        ArgumentError: The work_dir does not contain the config of the run to resume.
    """
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    resume, folder = cfg.get("resume"), str(cfg["work_dir"])
    if not resume and not restarts:
        return 0
    before = config_of(Path(folder)) if storage.is_local(folder) and Path(folder).is_dir() else None
    size = _value(before, _SIZE)
    if isinstance(size, int):
        return size
    if not resume or cfg.get("load_from") is None:  # there may be nothing to resume
        return 0
    raise ArgumentError(
        "the batch size of the run to resume is not recorded in its work_dir",
        key=_SIZE,
        found=_AUTO,
        notes=["Set the batch size with which the run started."],
    )


def _settings(cfg: Config, size: int, world: int, base: int | None) -> tuple[dict[str, Any], str]:
    """Returns the config values, by key path, for the largest batch size that fits, and a sentence about them."""
    processes = f" x {world} processes" if world > 1 else ""
    if base is None:
        return {_SIZE: size}, f"{size} samples{processes}."
    own = base // world
    size = next(each for each in range(min(size, own), 0, -1) if own % each == 0)
    accumulation = own // size
    if accumulation > 1 and not counts_epochs(cfg["train_cfg"]):
        raise ArgumentError(
            f"batch_size='auto' would shorten this run: gradients would be accumulated over {accumulation} batches of "
            f"{size} samples, and each batch counts as an iteration",
            key=_SIZE,
            found=_AUTO,
            notes=[
                f"Set batch_size={size} and accumulative_counts={accumulation}, and multiply max_iters accordingly."
            ],
        )
    note = f"{size} samples x {accumulation} accumulated{processes} = base_batch_size {base}."
    return {_SIZE: size, _COUNT: accumulation, "auto_scale_lr.enable": False}, note


def _try_in_process(cfg: Config, world: int, base: int | None) -> _Trial:
    """Tries batch sizes in a separate process, because a failed allocation may end the process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with temporary_folder("footplate-batch-") as folder:
        process = context.Process(target=_try_sizes, args=(cfg, folder, world, base, sender), daemon=True)
        process.start()
        sender.close()
        found = _Trial(0, "", None)
        try:
            with Console(stderr=True).status("Trying batch sizes") as status, suppress(EOFError):
                while True:
                    found = receiver.recv()
                    status.update(f"Trying batch sizes: {found.size} samples fit")
        except BaseException:  # a signal
            process.kill()  # it must not write to the folder while it is removed
            process.join()
            raise
        process.join()
    if found.reason or found.failure:
        return found
    return _Trial(found.size, f"a larger batch ended the process of the trial with exit code {process.exitcode}", None)


def _try_sizes(cfg: Config, folder: str, world: int, base: int | None, results: Connection) -> None:
    """Sends a result for each batch size that fits, in ascending order, and finally the reason for stopping."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the parent process may be killed
    with suppress(OSError):  # if memory runs out, the kernel should kill this process rather than others
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    nowhere = os.open(os.devnull, os.O_WRONLY)  # the actual run prints the same output
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    fits, size = 0, _SMALLEST
    try:
        runner = _build(cfg, folder)
        loader = cfg["train_dataloader"]
        prefetched = loader.get("num_workers", 0) * loader.get("prefetch_factor", 2)
        for size in _sizes(runner.train_dataloader.dataset, world, base):
            _train(runner, size, prefetched)
            fits = size
            results.send(_Trial(fits, "", None))
        whole = "base_batch_size" if fits * world == base else "dataset"
        results.send(_Trial(fits, f"a larger batch would exceed the {whole}", None))
    except BaseException as error:  # noqa: BLE001 - reported by the parent process
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        failure: FootplateError | None = None
        if isinstance(error, FootplateError):
            failure = error
        elif not is_out_of_memory(error):
            message = f"the trial of batch_size='auto' failed with a batch of {size} samples: {reason}"
            notes = [f"Set batch_size={size} to see where it fails, or set a size that works."]
            failure = ArgumentError(message, key=_SIZE, found=_AUTO, notes=notes)
        results.send(_Trial(fits, reason, failure))
    finally:
        os._exit(0)  # the cleanup of a normal exit would need memory


def _build(cfg: Config, folder: str) -> Runner:
    """Builds a run for one process, creates its averages and optimizer state, and limits its memory.

    Two training iterations create the state. Afterwards, the process may use only a fraction of the remaining memory.
    """
    settings = {"type": "OptimWrapper", **cfg["optim_wrapper"]}
    if "optimizer" in settings:
        settings["accumulative_counts"] = 2  # so that gradients are kept during a forward pass
    ranks = find_rank_info(cfg.get("launcher") or "none")
    if ranks is not None and torch.cuda.is_available():
        torch.cuda.set_device(ranks.local_rank % torch.cuda.device_count())
    loader = {**cfg["train_dataloader"], "batch_size": _SMALLEST, "num_workers": 0, "persistent_workers": False}
    loader.pop("prefetch_factor", None)
    runner = build_trial(
        cfg,
        folder,
        load_from=None,
        launcher="none",
        log_level="ERROR",
        model_wrapper_cfg=None,
        auto_scale_lr=None,
        preflight=False,
        train_dataloader=loader,
        optim_wrapper=settings,
    )
    runner.register_hook(_StopHook())
    with suppress(EarlyExitError):
        runner.train()
    device = runner.device
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        allowed = torch.cuda.memory_reserved(device) + _SHARE * free
        torch.cuda.set_per_process_memory_fraction(allowed / total, device)
    elif device.type == "cpu":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        free_on_host = free_memory()
        left = [] if free_on_host is None else [free_on_host // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))]
        left += [] if soft == resource.RLIM_INFINITY else [soft - used]
        if left:
            resource.setrlimit(resource.RLIMIT_AS, (used + int(_SHARE * min(left)), hard))
    return runner


def _sizes(dataset: Any, world: int, base: int | None) -> Iterator[int]:
    """Yields the batch sizes to try, in ascending order.

    With `base`, these are the divisors of the samples that each process contributes to a step. Otherwise, they are 2,
    3, 4, 6, 8, 12, ... Except for the first size, none exceeds the samples of the dataset per process.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ArgumentError("batch_size='auto' needs a dataset with a length", key="train_dataloader.dataset")
    largest = max(len(dataset) // world, _SMALLEST)
    if base is not None:
        own = base // world
        divisors = [each for each in range(min(_SMALLEST, own), own + 1) if own % each == 0]
        yield from [each for each in divisors if each <= largest] or divisors[:1]
        return
    for power in count(1):
        for size in (1 << power, 3 << power >> 1):
            if size > largest:
                return
            yield size


def _train(runner: Runner, samples: int, prefetched: int) -> None:
    """Trains two iterations on a batch of the largest samples, while reserving the other memory that a run needs.

    Args:
        runner: The run of the trial.
        samples: The batch size.
        prefetched: The number of batches that the workers of a run prefetch.
    """
    loader: Any = runner.train_dataloader
    batch = largest_batch(
        SimpleNamespace(dataset=loader.dataset, collate_fn=loader.collate_fn, batch_size=samples)
    ).batch
    parts = state_bytes(runner)
    # Saving copies the state, and workers prefetch batches. The reserved pages are never touched.
    copied = sum(parts.values()) - parts["gradients"]
    loaded = prefetched * bytes_of(tensor for _, tensor in tensors_in(batch))
    reserved = torch.empty(copied + loaded, dtype=torch.uint8)
    for _ in range(2):
        runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
    if runner.device.type != "cpu":
        torch.accelerator.synchronize()
    del reserved


class _StopHook(Hook):
    """Stops a run after two iterations, before validation."""

    priority = 100

    def before_train(self, runner: Runner) -> None:
        """Disables validation, because the process of a trial cannot start its workers."""
        loop: Any = runner.train_loop
        loop.val_begin = MAX_RUN_LENGTH

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stops after two iterations."""
        if batch_idx == 1:
            raise EarlyExitError
