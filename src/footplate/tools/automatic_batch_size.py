"""Chooses the batch size of a run by trial: `train_dataloader.batch_size='auto'`."""

import math
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import IterableDataset

from footplate import storage
from footplate.config import Config
from footplate.config.key_paths import merge_options
from footplate.distributed import gather_objects, get_world_size
from footplate.engine import Hook, Runner, process_setup
from footplate.engine.components import counts_epochs
from footplate.engine.learning_rate_scaling import base_batch_size
from footplate.engine.sections import check_config, runner_config
from footplate.engine.signals import EarlyExitError
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, Origin
from footplate.tools.largest_batch import largest_batch
from footplate.tools.partial_build import build_trial
from footplate.tools.run_files import config_of

_AUTO = "auto"
_SIZE, _COUNT = "train_dataloader.batch_size", "optim_wrapper.accumulative_counts"
_SPARE = 1.3  # a trial has this many times the samples, because a run fragments its memory
_SHARE = 0.8  # of the free memory of the host that a trial may use
_LARGEST = 1 << 20
_OUT_OF_MEMORY = ("alloc", "memory", "primitive")  # in messages of torch and oneDNN


def choose_batch_size(cfg: Config) -> tuple[Config, str]:
    """Replaces `train_dataloader.batch_size='auto'` by the largest batch size that fits into memory.

    The size is found by training on the largest samples of the dataset, in a process of its own. With
    `auto_scale_lr.base_batch_size`, the samples of an optimizer step keep this number: the batch size is a divisor of
    the samples of a process, and gradients are accumulated. A resumed run keeps its recorded batch size.

    Args:
        cfg: A config of either generation. Every rank must call this.

    Returns:
        The config, in the second generation and with numbers, or the given config if the batch size is not "auto"; and
        a sentence for the log, empty if the batch size is not "auto".

    Raises:
        ArgumentError: Not even the smallest batch fits, or the config sets keys that contradict an automatic size.
    """
    if _value(cfg, _SIZE) != _AUTO and _value(cfg, "data.samples_per_gpu") != _AUTO:
        return cfg, ""
    cfg = runner_config(cfg)
    with located(cfg):
        check_config(_with(cfg, {_SIZE: 1}), built_next=True)  # its errors have locations, unlike those of the trial
        _check(cfg)
        recorded = _recorded(cfg) if cfg.get("resume") else None
        if recorded is not None:
            return _with(cfg, recorded), f"batch_size='auto': the run keeps its batch size of {recorded[_SIZE]}."
        values, note = _found(cfg)
        return _with(cfg, values), note


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
    """Checks that the config leaves the batch size and the accumulation open."""
    if not hasattr(os, "fork"):
        raise ArgumentError("batch_size='auto' needs a system with fork, such as Linux", key=_SIZE, found=_AUTO)
    if _value(cfg, "train_dataloader.batch_sampler") is not None:
        raise ArgumentError("batch_size='auto' does not fit a batch sampler", key="train_dataloader.batch_sampler")
    with at_key("auto_scale_lr"):
        base = _value(cfg, "auto_scale_lr.base_batch_size")
        if base is not None:
            base_batch_size({**cfg["auto_scale_lr"], "enable": True})
    if base is None:
        return
    if "optimizer" not in (cfg.get("optim_wrapper") or {}):
        raise ArgumentError(
            "batch_size='auto' can accumulate the gradients of one optimizer only",
            key="optim_wrapper",
            notes=["Remove auto_scale_lr.base_batch_size, or set the batch size."],
        )
    given = _value(cfg, _COUNT)
    if given not in (None, 1):
        raise ArgumentError(
            "batch_size='auto' determines the accumulation", key=_COUNT, found=given, notes=[f"Remove {_COUNT}."]
        )


def _recorded(cfg: Config) -> dict[str, Any] | None:
    """Returns the numbers of the run in the work_dir, or None if there is none that resume='auto' could resume."""
    folder = str(cfg["work_dir"])
    before = config_of(Path(folder)) if storage.is_local(folder) and Path(folder).is_dir() else None
    if before is not None and isinstance(_value(before, _SIZE), int):
        paths = (_SIZE, _COUNT, "auto_scale_lr.enable")
        return {path: _value(before, path) for path in paths if _value(before, path) is not None}
    if cfg["resume"] == "auto" and cfg.get("load_from") is None:
        return None
    raise ArgumentError(
        "the batch size of the run to resume is not recorded in its work_dir",
        key=_SIZE,
        found=_AUTO,
        notes=["Set the batch size with which the run started."],
    )


def _found(cfg: Config) -> tuple[dict[str, Any], str]:
    """Tries batches on every rank, and returns the numbers to set and a sentence for the log."""
    # Before the process group is joined, whose threads and device contexts a forked process could not use.
    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) if cfg.get("launcher") else 1
    world = 1 if cfg.get("launcher") in (None, "none") else world
    base = _value(cfg, "auto_scale_lr.base_batch_size")
    if base is not None and base % world:
        raise ArgumentError(
            f"{world} processes cannot share {base} samples evenly",
            key="auto_scale_lr.base_batch_size",
            found=base,
            notes=["Start a number of processes that divides it."],
        )
    fits, reason = _try_in_process(cfg, None if base is None else base // world)
    process_setup.prepare(cfg.get("env_cfg") or {}, launcher=cfg.get("launcher") or "none")
    size, reason = min(gather_objects((fits, reason)))
    if size == 0:
        raise ArgumentError(f"not even the smallest batch can be trained: {reason}", key=_SIZE, found=_AUTO)
    if base is None:
        return {_SIZE: size}, f"batch_size='auto': batches of {size} samples fit. Larger ones do not: {reason}"
    accumulation = base // (get_world_size() * size)
    if accumulation > 1 and not counts_epochs(cfg["train_cfg"]):
        raise ArgumentError(
            f"batches of {size} samples fit, and {accumulation} of them would have to be accumulated. A run that "
            "counts iterations would then see fewer samples",
            key=_SIZE,
            found=_AUTO,
            notes=[
                f"Set batch_size={size} and accumulative_counts={accumulation}, and multiply max_iters accordingly."
            ],
        )
    note = f"{size} samples x {accumulation} accumulated x {get_world_size()} processes = base_batch_size {base}."
    return {_SIZE: size, _COUNT: accumulation, "auto_scale_lr.enable": False}, f"batch_size='auto': {note}"


def _try_in_process(cfg: Config, samples: int | None) -> tuple[int, str]:
    """Returns the largest batch size that fits, and why the next one does not; 0 if none fits.

    A failed allocation may end a process, so the trial has its own.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    trial = context.Process(target=_try_sizes, args=(cfg, samples, sender), daemon=True)
    trial.start()
    sender.close()
    size, reason = 0, ""
    with suppress(EOFError):
        while True:
            found = receiver.recv()
            if isinstance(found, str):
                reason = found
            else:
                size = found
    trial.join()
    return size, reason or f"the process of the trial ended with exit code {trial.exitcode}"


def _try_sizes(cfg: Config, samples: int | None, results: Connection) -> None:
    """Sends each batch size that fits, in ascending order, and then the reason why no more are tried."""
    with suppress(OSError):  # if memory runs out, the kernel shall end this process rather than others
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        with tempfile.TemporaryDirectory(prefix="footplate-batch-") as folder:
            settings = {"type": "OptimWrapper", **cfg["optim_wrapper"]}
            if "optimizer" in settings:
                settings["accumulative_counts"] = 2  # so that gradients are kept during a forward pass
            loader = {**cfg["train_dataloader"], "batch_size": 2, "num_workers": 0, "persistent_workers": False}
            runner = build_trial(
                cfg,
                folder,
                load_from=None,
                launcher="none",
                log_level="ERROR",
                model_wrapper_cfg=None,
                auto_scale_lr=None,
                train_dataloader=loader,
                optim_wrapper=settings,
            )
            _limit_memory(runner)
            runner.register_hook(_StopHook())
            with suppress(_EnoughError):
                runner.train()  # builds averages and the state of the optimizer
            for size in _sizes(samples, runner.train_dataloader.dataset):
                _train(runner, math.ceil(_SPARE * size))
                results.send(size)
        results.send("the whole dataset or the whole global batch fits")
    except BaseException as error:  # noqa: BLE001 - reported by the process that waits
        results.send(f"{type(error).__name__}: {error}".partition("\n")[0])
        os._exit(0)  # objects may hold memory that cleaning up would need


def _limit_memory(runner: Runner) -> None:
    """Limits this process to a share of the free memory of the host if it trains there."""
    if runner.device.type != "cpu":
        return
    import resource

    with suppress(OSError, ValueError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limits = [each for each in resource.getrlimit(resource.RLIMIT_AS) if each != resource.RLIM_INFINITY]
        limit = min([int(used + _SHARE * free), *limits])
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _sizes(samples: int | None, dataset: Any) -> Iterator[int]:
    """Yields batch sizes to try: divisors of the samples of a step, or 2, 3, 4, 6, 8, 12 up to the dataset's length."""
    if isinstance(dataset, IterableDataset):
        raise ArgumentError("batch_size='auto' needs a dataset with a length", key="train_dataloader.dataset")
    if samples is not None:
        # One sample is too few for batch normalization in training.
        yield from (each for each in range(min(2, samples), samples + 1) if samples % each == 0)
        return
    for power in count(1):
        for size in (1 << power, 3 << power >> 1):
            if size > min(len(dataset), _LARGEST):
                return
            yield size


def _train(runner: Runner, samples: int) -> None:
    loader = runner.train_dataloader
    found = largest_batch(SimpleNamespace(dataset=loader.dataset, collate_fn=loader.collate_fn, batch_size=samples))
    for _ in range(4):  # two steps of the optimizer
        runner.model.train_step(found.batch, optim_wrapper=runner.optim_wrapper)
    if runner.device.type != "cpu":
        torch.accelerator.synchronize()


class _EnoughError(EarlyExitError):
    """Stops the run of a trial."""


class _StopHook(Hook):
    """Stops a run after its first optimizer step."""

    priority = 100

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stops after two iterations."""
        if batch_idx == 1:
            raise _EnoughError
