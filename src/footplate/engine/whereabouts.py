"""Describes what a call stack of this engine is doing, in user-facing terms."""

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

import footplate
from footplate.engine.hook import EVENTS
from footplate.engine.signals import Interrupted
from footplate.errors import ExitError

_OURS = os.path.dirname(os.path.abspath(footplate.__file__)) + os.sep
_NOT_USERS = (_OURS, *{os.path.join(path, "") for path in sysconfig.get_paths().values()}, "<")
# By the end of a file name and a function. The innermost match applies.
_PHASES = {
    ("engine/assemble.py", "build_model"): "building the model",
    ("engine/assemble.py", "build_train_loop"): "building data",
    ("engine/assemble.py", "build_evaluation_loop"): "building data",
    ("engine/runner.py", "_initialize_weights"): "initial weights",
    ("engine/runner.py", "load_or_resume"): "loading a checkpoint",
    ("engine/runner.py", "save_checkpoint"): "saving a checkpoint",
    ("engine/signals.py", "agree"): "agreement on requests",
    ("engine/signals.py", "raise_lost"): "data loading",
    ("engine/train_loops.py", "batches"): "data loading",
    ("engine/evaluation_loops.py", "run"): "validation",
    ("evaluation/metric.py", "evaluate"): "metrics",
}
# By function name alone, in any module.
_STEPS = {
    "train_step": "forward pass",
    "val_step": "prediction",
    "test_step": "prediction",
    "update_params": "backward pass",
    "backward": "backward pass",
}
_FILES = {"utils/data/dataloader.py": "data loading", "torch/optim/optimizer.py": "optimizer step"}
# What DistributedDataParallel does before a forward pass, and all ranks must join.
_BUFFERS = ("nn/parallel/distributed.py", ("_pre_forward", "_sync_buffers"), "exchange of buffers")
_COLLECTIVES = os.path.join("torch", "distributed") + os.sep
_OWN = ("distributed/collectives.py",)


def look(stack: list[tuple[FrameType, int]]) -> tuple[str, bool, str]:
    """Returns the phase of a stack, whether it waits for other ranks, and the user's line of code.

    Args:
        stack: Frames with their line numbers, outermost frame first.
    """
    phase, collective, ours, line = "start", "", "", ""
    for frame, number in stack:
        file = frame.f_code.co_filename
        found = _phase_of(frame, file)
        if found:
            phase, collective = found, ""
        elif not collective:
            collective = _collective_of(frame, file)
        if not file.startswith(_NOT_USERS):
            line = f"{file}:{number}"
        elif file.startswith(_OURS):
            ours = f"{file}:{number}"
    line = line or ours
    if collective:
        return f"{phase} ({collective})", True, _short(line)
    return phase, phase == "backward pass" or _device_waits(phase), _short(line)


@contextmanager
def refusing_exits() -> Iterator[None]:
    """Replaces a SystemExit that user code raises by an error, because the run is not complete.

    Raises:
        ExitError: The block raised SystemExit, other than for a signal.
    """
    try:
        yield
    except Interrupted:
        raise
    except SystemExit as error:
        _, _, line = look([*traceback.walk_tb(error.__traceback__)])
        raise ExitError(
            f"The run was left by SystemExit({error.code!r}), raised at {line}",
            notes=["Raise an error there, or set `runner.train_loop.stop_training = True` in a hook."],
        ) from error


def _phase_of(frame: FrameType, file: str) -> str:
    name = frame.f_code.co_name
    if name in EVENTS and not file.endswith("engine/runner.py"):
        return f"{type(frame.f_locals.get('self')).__name__}.{name}"
    if name in _STEPS:
        return _STEPS[name]
    if file.startswith(_OURS):
        return _PHASES.get((file[len(_OURS) :].replace(os.sep, "/"), name), "")
    return next((phase for end, phase in _FILES.items() if file.endswith(end)), "")


def _collective_of(frame: FrameType, file: str) -> str:
    name = frame.f_code.co_name
    if file.endswith(_BUFFERS[0]) and name in _BUFFERS[1]:
        return _BUFFERS[2]
    return name.strip("_") if (_COLLECTIVES in file or file.endswith(_OWN)) and not _is_nothing(frame) else ""


def _is_nothing(frame: FrameType) -> bool:
    """Checks whether a frame only queries the rank or world size, or wraps another function."""
    return frame.f_code.co_name in ("wrapper", "inner", "get_rank", "get_world_size", "is_initialized")


def _device_waits(phase: str) -> bool:
    """Checks whether collectives of an accelerator may be pending: they are asynchronous until a result is read."""
    busy = phase not in ("data loading", "start", "building data")
    return busy and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _short(line: str) -> str:
    relative = os.path.relpath(line) if line.startswith(os.sep) else line
    return line if relative.startswith("..") else relative
