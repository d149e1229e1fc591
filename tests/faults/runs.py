"""Runs that are forked from a process that has imported torch, interrupted and resumed."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate import Runner
from footplate.optim.by_optimizer import schedules_by_optimizer
from footplate.testing.digests import digest
from tests.faults.processes import fork
from tests.support import loader, settings

ITERATIONS = 12


def all_settings() -> list[dict[str, Any]]:
    """Returns 24 settings: loop kind x workers x six combinations of precision, accumulation, EMA and schedules.

    Losses have weights in half of them.
    """
    mixtures: list[dict[str, Any]] = [
        {"amp": None, "accumulate": 1, "ema": False, "schedule": "iteration"},
        {"amp": None, "accumulate": 3, "ema": True, "schedule": "epoch", "weighted": True},
        {"amp": "bfloat16", "accumulate": 1, "ema": True, "schedule": "iteration", "weighted": True},
        {"amp": "float16", "accumulate": 3, "ema": False, "schedule": "iteration", "weighted": True},
        {"amp": "float16", "accumulate": 1, "ema": True, "schedule": "epoch"},
        {"amp": "bfloat16", "accumulate": 3, "ema": False, "schedule": "epoch"},
    ]
    kinds = [("epochs", False), ("iterations", False), ("iterations", True), ("epochs", True)]
    pairs = [(kind, endless) for kind, endless in kinds if not (kind == "epochs" and endless)]
    found = [
        {"by_epoch": kind == "epochs", "endless": endless, "workers": workers, **mixture}
        for (kind, endless), workers, mixture in itertools.product(pairs[:2], (0, 2), mixtures)
    ]
    for place in (13, 16):
        found[place]["endless"] = True
    return found


def config(work_dir: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a run of 12 iterations in epochs of 4 that saves after every second iteration."""
    by_epoch = setting["by_epoch"]
    wrapper: dict[str, Any] = {"optimizer": {"type": "AdamW", "lr": 0.02}, "clip_grad": {"max_norm": 1.0}}
    wrapper["accumulative_counts"] = setting["accumulate"]
    if setting["amp"]:
        wrapper |= {"type": "AmpOptimWrapper", "dtype": setting["amp"]}
        wrapper["loss_scale"] = {"init_scale": 1024.0, "growth_interval": 3}
    schedule = {"type": "LinearLR", "start_factor": 0.1, "end": 9, "by_epoch": False}
    if setting["schedule"] == "epoch" and by_epoch:
        schedule = {"type": "CosineAnnealingLR", "T_max": 3, "by_epoch": True, "convert_to_iter_based": False}
    length: dict[str, Any] = {"max_epochs": 3} if by_epoch else {"max_iters": ITERATIONS, "val_interval": 4}
    sampler = {"type": "InfiniteSampler" if setting["endless"] else "DefaultSampler", "shuffle": True}
    hooks = [{"type": "EMAHook", "momentum": 0.1}] if setting["ema"] else []
    return settings(
        work_dir,
        by_epoch=by_epoch,
        model={"type": "ToyModel", "dropout": 0.3, "is_weighted": setting.get("weighted", False)},
        train_dataloader=loader(16, num_workers=setting["workers"], sampler=sampler),
        train_cfg={"by_epoch": by_epoch, **length},
        optim_wrapper=wrapper,
        param_scheduler=schedule,
        custom_hooks=hooks,
        default_hooks={"logger": None, "checkpoint": {"by_epoch": False, "interval": 2, "max_keep_ckpts": 3}},
        log_level="ERROR",
        resume=True,
    )


def outcome(runner: Runner) -> dict[str, Any]:
    """Returns the outcome of a run: all state that determines how it would continue, and its records."""
    histories = {
        key: history.data[0].tolist() for key, history in runner.message_hub.log_scalars.items() if "time" not in key
    }
    groups = schedules_by_optimizer(runner.param_schedulers)
    averages = [getattr(hook, "ema_model", None) for hook in runner.hooks]
    return {
        "model": runner.model.state_dict(),
        "optimizer": runner.optim_wrapper.state_dict(),
        "schedules": [each.state_dict() for group in groups.values() for each in group],
        "averages": [each.state_dict() for each in averages if each is not None],
        "histories": histories,
        "rows": [{key: value for key, value in row.items() if "time" not in key} for row in runner.history],
        "random": (random.getstate()[1], torch.get_rng_state()),
        "hooks": [hook.state_dict() for hook in runner.hooks if type(hook).__module__.startswith("tests.")],
        "position": (runner.iter, runner.epoch),
    }


def warm_up(folder: Path) -> None:
    """Trains once in this process, so that forked processes have imported everything."""
    Runner(**config(folder, all_settings()[1])).train()


def start(cfg: dict[str, Any], result: Path, fault: Callable[[], None] | None = None) -> int:
    """Forks a process that trains and writes its outcome to `result`; returns the process."""

    def train() -> int:
        if fault is not None:
            fault()
        runner = Runner.from_cfg(cfg)
        runner.train()
        torch.save(outcome(runner), result)
        return 0

    return fork(train, result.with_suffix(".log"))


def same(one: Any, other: Any) -> bool:
    """Checks whether two states are equal bit for bit."""
    return digest(one) == digest(other)


def first_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Returns the first part in which two outcomes differ, or "".

    A run that is already finished builds no averaged weights; they are in its checkpoint.
    """
    idle = [key for key in ("averages",) if not one[key] or not other[key]]
    return next((key for key in one if key not in idle and not same(one[key], other[key])), "")
