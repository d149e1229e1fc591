"""Faults planted on purpose: a harness that does not find them proves nothing."""

import signal
from collections.abc import Callable
from typing import Any

from footplate.checkpoint import saving
from footplate.engine import position, runner, state
from footplate.engine.signals import Requests
from footplate.hooks import CheckpointHook
from footplate.optim import AmpOptimWrapper, OptimWrapper, ParamSchedule

KILL = (signal.SIGKILL,)
STOP = (signal.SIGTERM, signal.SIGINT)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Stands for a step that was forgotten."""


def _random_state() -> None:
    runner.Runner.restore_random_state = _nothing  # type: ignore[method-assign]


def _data_position() -> None:
    one_pass, endless = position.DataPosition.one_pass, position.DataPosition.endless
    position.DataPosition.one_pass = lambda self, epoch, start: one_pass(self, epoch, 0)  # type: ignore[method-assign]
    position.DataPosition.endless = lambda self, iteration: endless(self, 0)  # type: ignore[method-assign]


def _optimizer() -> None:
    OptimWrapper.load_state_dict = _nothing  # type: ignore[method-assign]


def _schedules() -> None:
    ParamSchedule.load_state_dict = _nothing  # type: ignore[method-assign]


def _without(key: str) -> Callable[[], None]:
    def plant() -> None:
        whole = OptimWrapper.state_dict

        def part(self: Any, **settings: Any) -> dict[str, Any]:
            return {name: value for name, value in whole(self, **settings).items() if name != key}

        OptimWrapper.state_dict = part  # type: ignore[method-assign]

    return plant


def _scaler() -> None:
    AmpOptimWrapper.load_state_dict = OptimWrapper.load_state_dict  # type: ignore[method-assign]


def _average() -> None:
    from footplate.hooks import EMAHook

    EMAHook.before_save_checkpoint = _nothing  # type: ignore[method-assign]


def _hook_state() -> None:
    CheckpointHook.load_state_dict = _nothing  # type: ignore[method-assign]


def _history() -> None:
    from footplate.records import MessageHub

    MessageHub.load_state_dict = _nothing  # type: ignore[method-assign]


def _one_off() -> None:
    whole = state.position
    state.position = lambda runner: {**whole(runner), "iter": whole(runner)["iter"] + 1}


def _in_place() -> None:
    def write(plain: Any, path: str) -> None:
        import torch

        torch.save({key: value for key, value in plain.items() if key != "run"}, path)

    saving.commit_plain = write


def _deaf() -> None:
    Requests._on_stop = lambda self, number, frame: (_ for _ in ()).throw(SystemExit(0))  # type: ignore[method-assign]


PLANTED: dict[str, tuple[Callable[[], None], tuple[int, ...]]] = {
    "random generators are not restored": (_random_state, KILL),
    "the position in the data is not restored": (_data_position, KILL),
    "the optimizer is not restored": (_optimizer, KILL),
    "schedules are not restored": (_schedules, KILL),
    "accumulated gradients are not saved": (_without("accumulated_gradients"), KILL),
    "the loss scaler is not restored": (_scaler, KILL),
    "averaged weights are not saved": (_average, KILL),
    "histories are not restored": (_history, KILL),
    "the saved iteration is one too many": (_one_off, KILL),
    "checkpoints are written in place, without position and seal": (_in_place, KILL),
    "SIGTERM ends the run at once with 0": (_deaf, STOP),
}
