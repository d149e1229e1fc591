"""Runs that are killed and resumed, and comparisons of their states."""

import copy
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import torch

from footplate import Hook, Runner
from tests.support import KillForTest, loader, settings

MODEL = {"type": "ToyModel", "dropout": 0.3}


def config(
    work_dir: Path, *, by_epoch: bool, by_iteration: int = 0, workers: int = 0, accumulate: int = 1, **changes: Any
) -> dict[str, Any]:
    """Returns a run of 12 iterations that depends on all kinds of state: noise, dropout, momentum, schedules."""
    checkpoint = {"by_epoch": False, "interval": by_iteration} if by_iteration else {"by_epoch": True, "interval": 1}
    optimizer = {"type": "AdamW", "lr": 0.05}
    schedules = [
        {"type": "LinearLR", "start_factor": 0.1, "end": 5, "by_epoch": False},
        {"type": "CosineAnnealingLR", "begin": 5, "end": 12, "eta_min": 0.0, "by_epoch": False},
    ]
    return settings(
        work_dir,
        by_epoch=by_epoch,
        model=MODEL,
        train_dataloader=loader(num_workers=workers),
        optim_wrapper={"optimizer": optimizer, "accumulative_counts": accumulate, "clip_grad": {"max_norm": 1.0}},
        param_scheduler=schedules,
        **{"default_hooks": {"checkpoint": {**checkpoint, "save_best": "accuracy"}}, **changes},
    )


def run(cfg: dict[str, Any], *hooks: Hook, **changes: Any) -> Runner:
    runner = Runner.from_cfg({**copy.deepcopy(cfg), **changes})
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def state(path: Path | str) -> dict[str, Any]:
    """Returns the parts of a checkpoint that determine how a run continues."""
    read = torch.load(path, weights_only=True)
    histories = {
        key: value["values"].tolist() for key, value in read["message_hub"]["log_scalars"].items() if "time" not in key
    }
    kept = {key: read[key] for key in ("state_dict", "optimizer", "param_schedulers")}
    return {**kept, "position": read["run"]["loop"], "histories": histories, "random": read["run"]["random"]}


def assert_same(found: Any, expected: Any, place: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            assert_same(found[key], value, f"{place}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{place}[{index}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), place
    else:
        assert found == expected, place


def run_until_killed(cfg: dict[str, Any], kill: KillForTest) -> None:
    process = multiprocessing.get_context("fork").Process(target=run, args=(cfg, kill))
    process.start()
    process.join()  # no timeout: with one, join would wait for the loader's workers, which notice after 5 seconds
    assert process.exitcode == -signal.SIGKILL
