"""Deliberately planted faults, which the harness must find to be trusted."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from footplate.checkpoint import saver, unpickler
from footplate.data import position
from footplate.engine.control import random_state, signals
from footplate.engine.loops.base_loops import BaseTrainLoop
from footplate.engine.run.boundary import Boundary
from footplate.hooks import CheckpointHook
from footplate.optim import AmpOptimWrapper, OptimWrapper, ParamSchedule
from tests.faults.processes import nothing, replace_in
from tests.faults.row import Fault


def _random_state() -> None:
    random_state.TrainingRandomState.restore = nothing  # type: ignore[method-assign]


def _data_position() -> None:
    cls = position.DataPosition
    one_pass, endless = cls.one_pass, cls.endless
    cls.one_pass = lambda self, pass_index, start, iteration: one_pass(self, pass_index, 0, iteration)  # type: ignore[method-assign]
    cls.endless = lambda self, iteration: endless(self, 0)  # type: ignore[method-assign]


def _optimizer() -> None:
    OptimWrapper.load_state_dict = nothing  # type: ignore[method-assign]


def _schedules() -> None:
    ParamSchedule.load_state_dict = nothing  # type: ignore[method-assign]


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

    EMAHook.before_save_checkpoint = nothing  # type: ignore[method-assign]


def _history() -> None:
    from footplate.records import MessageHub

    MessageHub.load_state_dict = nothing  # type: ignore[method-assign]


def _one_off() -> None:
    whole = BaseTrainLoop.state_dict
    BaseTrainLoop.state_dict = lambda loop: {**whole(loop), "iter": whole(loop)["iter"] + 1}  # type: ignore


def _in_place() -> None:
    def write(plain: Any, path: str) -> None:
        import torch

        torch.save({key: value for key, value in plain.items() if key != "run"}, path)

    saver.commit_checkpoint = write  # type: ignore[assignment]


def _deaf() -> None:
    signals._Handlers.on_stop = lambda self, number, frame: (_ for _ in ()).throw(SystemExit(0))  # type: ignore[method-assign]


def _forgetful() -> None:
    replace_in(Boundary, "save_on_request", lambda boundary: "")


def _without_rename() -> None:
    from footplate.storage import local_files

    @contextlib.contextmanager
    def atomic_local_file(path: str, reserve: int = 0) -> Iterator[Any]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            yield file

    replace_in(local_files, "atomic_local_file", atomic_local_file)


def _older_first() -> None:
    whole = saver.save_checkpoint

    def save(state: Any, path: Any) -> None:
        for each in path.parent.glob("*.pth"):
            os.unlink(each)
        whole(state, path)

    saver.save_checkpoint = save


def _unchecked() -> None:
    from footplate.checkpoint import torch_file
    from footplate.checkpoint.digest import read_digest

    replace_in(torch_file, "verify_digest", read_digest)


def _swallowed() -> None:
    from footplate.storage import local_files

    whole = local_files.atomic_local_file

    @contextlib.contextmanager
    def atomic_local_file(path: str, reserve: int = 0) -> Iterator[Any]:
        with contextlib.suppress(OSError), whole(path) as sink:
            yield sink

    replace_in(local_files, "atomic_local_file", atomic_local_file)


def _removed_first() -> None:
    whole = CheckpointHook._path_to_write

    def path_to_write(*arguments: Any) -> str:
        path = whole(*arguments)
        for name in os.listdir(os.path.dirname(path)):
            if name.endswith(".pth"):
                os.unlink(os.path.join(os.path.dirname(path), name))
        return path

    CheckpointHook._path_to_write = path_to_write  # type: ignore[method-assign, assignment]


def _raised() -> None:
    def fail(self: Any, save: Any) -> None:
        if save.error is not None:
            raise RuntimeError("a save failed") from save.error

    saver.BackgroundSaver._end = fail  # type: ignore[method-assign]


def _bent() -> None:
    whole = unpickler._NAMES["torch._utils._rebuild_tensor_v2"]

    def turned(storage: Any, offset: int, size: Any, stride: Any, *others: Any) -> Any:
        return whole(storage, offset, size, tuple(reversed(stride)) if len(set(size)) == 1 else stride, *others)

    unpickler._NAMES["torch._utils._rebuild_tensor_v2"] = turned


def _rounded() -> None:
    whole = unpickler._NAMES["numpy._core.multiarray.scalar"]

    def rounded(*args: Any) -> float:
        return round(float(whole(*args)), 3)

    unpickler._NAMES["numpy._core.multiarray.scalar"] = rounded


KILLED: dict[str, Fault] = {
    "random generators are not restored": _random_state,
    "the position in the data is not restored": _data_position,
    "the optimizer is not restored": _optimizer,
    "schedules are not restored": _schedules,
    "accumulated gradients are not saved": _without("accumulated_gradients"),
    "the loss scaler is not restored": _scaler,
    "averaged weights are not saved": _average,
    "histories are not restored": _history,
    "the saved iteration is one too many": _one_off,
    "checkpoints are written in place, without position and digest": _in_place,
}
STOPPED: dict[str, Fault] = {"the run ends at once with 0": _deaf}
TOLD: dict[str, Fault] = {**STOPPED, "nothing is saved at the stop": _forgetful}
DEAD: dict[str, Fault] = {
    "a file is written in its place, without a rename": _without_rename,
    "older checkpoints go before the new one is there": _older_first,
}
DAMAGED: dict[str, Fault] = {"the digest is not compared": _unchecked}
STARVED: dict[str, Fault] = {
    "an error of a commit is swallowed": _swallowed,
    "older checkpoints go before the new one is there": _removed_first,
    "a failed save ends the run with an error of its own": _raised,
}
BENT: dict[str, Fault] = {"square tensors come back turned": _bent, "scalars of numpy are rounded": _rounded}
