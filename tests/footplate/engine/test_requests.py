"""What a run has been asked to do, and what it has determined on the way, survives a kill or a stop."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.engine.control.requests import Interrupted
from tests.support import settings


class KilledError(Exception):
    """Ends a run without saving it."""


def kill() -> None:
    raise KilledError


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Asks(Hook):
    """Requests the end of training once, in the sixth iteration, and interrupts the run at another event."""

    def __init__(self, event: str = "", at: int = 0, interrupt: Callable[[], None] = kill) -> None:
        if event:
            setattr(self, event, lambda runner, **arguments: interrupt() if runner.iter == at else None)

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 5:
            runner.should_stop = True


def train(work_dir: Path, *, by_epoch: bool, resume: bool = False, hooks: Any = (), **changes: Any) -> Runner:
    saves = {"checkpoint": {"by_epoch": False, "interval": 1, **changes.pop("checkpoint", {})}}
    cfg = settings(work_dir, by_epoch=by_epoch, default_hooks=saves, custom_hooks=[*hooks], resume=resume, **changes)
    runner = Runner(**cfg)
    interrupted = any(len(vars(hook)) for hook in hooks)
    with pytest.raises((KilledError, Interrupted)) if interrupted and not resume else nullcontext():
        runner.train()
    return runner


@pytest.mark.parametrize(("by_epoch", "end"), [(True, 8), (False, 6)])
def test_request_ends_training(tmp_path: Path, by_epoch: bool, end: int) -> None:
    assert train(tmp_path, by_epoch=by_epoch, hooks=[Asks()]).iter == end


@pytest.mark.parametrize(
    ("by_epoch", "event", "at", "interrupt"),
    [
        (True, "after_train_iter", 5, terminate),
        (True, "after_train_iter", 6, kill),
        (True, "after_train_epoch", 8, kill),
        (True, "before_val", 8, kill),
        (True, "after_val_iter", 8, terminate),
        (True, "after_train", 8, kill),
        (False, "after_train_iter", 5, terminate),
        (False, "after_train_epoch", 6, kill),
        (False, "after_train", 6, kill),
    ],
)
def test_request_to_end_training_survives(
    tmp_path: Path, by_epoch: bool, event: str, at: int, interrupt: Callable[[], None]
) -> None:
    end = 8 if by_epoch else 6
    stopped = Asks(event, at, interrupt)
    train(tmp_path / "cut", by_epoch=by_epoch, hooks=[stopped])
    assert train(tmp_path / "cut", by_epoch=by_epoch, resume=True).iter == end
    # The request has been fulfilled, so the run trains on.
    assert train(tmp_path / "cut", by_epoch=by_epoch, resume=True).iter == 12


def test_time_limit_does_not_replace_a_request_to_end_training(tmp_path: Path) -> None:
    class Late(Asks):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.requests.local.time_limit = runner.iter == 6

    assert train(tmp_path, by_epoch=True, hooks=[Late()]).iter == 7
    assert train(tmp_path, by_epoch=True, resume=True).iter == 8


def test_same_runner_ends_training_after_an_interruption(tmp_path: Path) -> None:
    runner = train(tmp_path, by_epoch=True, hooks=[Asks("after_train_iter", 6, terminate)])
    assert runner.iter == 7
    runner.train()
    assert runner.iter == 8


def test_hook_may_withdraw_a_saved_request(tmp_path: Path) -> None:
    class Withdraws(Hook):
        def before_train(self, runner: Any) -> None:
            runner.train_loop.stop_training = False

    train(tmp_path, by_epoch=True, hooks=[Asks("after_train_iter", 6, terminate)])
    assert train(tmp_path, by_epoch=True, resume=True, hooks=[Withdraws()]).iter == 12


# What differs between a run and a resumed one, and why.
DIFFERENT = {
    "session": "of a call of `train`",
    "batches_read": "counted by the process",
    "_is_first_step": "of the process",
    "_since": "the time of the latest exchange of requests",
    "leaves_for_save": "set before each validation",
    "_validated": "the number that validation does not count is unknown after a resume",
    "_anchor": "the rest of a pass begins at the resume",
    "_losses_per_iteration": "estimated by the process",
    "_count_at_start": "the iteration in which the process began",
    "_called_zero_grad": "since the latest step",
    "_clears_between_steps": "between the two latest steps",
    "_names": "by id",
    "message_hub": "the same values, some of which have been added up",
    "metrics": "of the latest validation of the process",
}


def plain_values(root: Any) -> dict[str, Any]:
    """Returns all plain values in the attributes of an object of footplate, and of those that it contains."""
    values: dict[str, Any] = {}
    seen: set[int] = set()

    def collect(path: str, value: Any) -> None:
        if isinstance(value, bool | int | float | str | None):
            values[path] = value
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Mapping):
                parts = {str(key): part for key, part in value.items()}
            elif isinstance(value, list | tuple | set):
                parts = {str(number): part for number, part in enumerate(value)}
            elif type(value).__module__.startswith("footplate") and not isinstance(value, Runner | torch.nn.Module):
                parts = vars(value)
            else:
                return
            for name, part in parts.items():
                if name not in DIFFERENT:
                    collect(f"{path}.{name}", part)

    collect("", root)
    return values


@pytest.mark.parametrize("by_epoch", [True, False])
def test_resumed_run_has_the_same_plain_values(tmp_path: Path, by_epoch: bool) -> None:
    class Notes(Hook):
        def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            if runner.iter == 9:
                own = {"": runner.requests, "position": runner.position, "state": runner.train_loop.state_dict()}
                self.values = plain_values({name: runner.built[name] for name in PARTS} | own)

    train_cfg: dict[str, Any] = {"max_epochs": 3} if by_epoch else {"max_iters": 12}
    train_cfg |= {"val_interval": 3 if by_epoch else 5, "dynamic_intervals": [(2, 1)] if by_epoch else [(7, 2)]}
    noted: list[dict[str, Any]] = []
    for changes in ({}, {"load_from": str(tmp_path / "0/iter_9.pth"), "resume": True}):
        notes = Notes()
        cfg = settings(tmp_path / str(len(noted)), by_epoch=by_epoch, custom_hooks=[notes], preflight=False, **changes)
        saves = {"checkpoint": {"by_epoch": False, "interval": 1}}
        Runner(**{**cfg, "train_cfg": {"by_epoch": by_epoch, **train_cfg}, "default_hooks": saves}).train()
        noted.append(notes.values)
    assert noted[0][".train_loop.val_interval"] == (1 if by_epoch else 2)
    assert noted[0] == noted[1]


PARTS = ("train_loop", "val_loop", "optim_wrapper", "param_schedulers")
