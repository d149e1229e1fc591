"""Finds the module of a model that raised an error, and the config section that describes the module."""

import errno
import os
import re
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.error_context import describe_changes, origin_at
from footplate.errors import DEBUG_HINT, FootplateError

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_CALL = nn.Module.__call__.__code__  # runs whenever a module is called
_DEVICE_ERRORS = ("cuda error", "cudnn", "cublas", "nccl")  # not the fault of the module that was running
_OUT_OF_MEMORY = re.compile(  # messages of torch, cuBLAS, cuDNN, oneDNN and Python
    r"out of memory|cannot allocate memory|can't allocate memory|not enough memory: you tried to allocate|bad_alloc|"
    r"STATUS_ALLOC_FAILED|could not (create|execute) a primitive|can't start new thread",
    re.IGNORECASE,
)


class ComponentError(FootplateError):
    """A model, a hook or a dataset failed. The original error is `__cause__`.

    Args:
        stage: The stage of the run, such as "training iteration 1".
        error: The original error.
        key: The config section that most likely caused it.
        module: The name of the module that raised it, or "" if unknown.
        notes: Additional lines of the message. By default, the message suggests `--debug`.
    """

    def __init__(self, stage: str, error: Exception, *, key: str, module: str = "", notes: Sequence[str] = ()) -> None:
        first = str(error).strip().partition("\n")[0]
        place = f" in {module}" if module else ""
        message = f"{stage} fails{place}: {type(error).__name__}: {first}"
        super().__init__(message, key=key, notes=notes, hides_cause=not notes)
        self.stage = stage


def is_out_of_memory(error: BaseException) -> bool:
    """Checks whether an error reports a lack of memory on the host or the device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_reported = isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or is_reported


def module_error(stage: str, error: Exception, cfg: Any) -> ComponentError | None:
    """Returns an error that names the module or optimizer in which a torch operation failed, and its config section.

    Args:
        stage: The stage of the run, such as "training iteration 1".
        error: The original error.
        cfg: The config, in the second generation.

    Returns:
        The error. None if neither was running, or if their inputs did not cause the original error.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if not frames or isinstance(error, FootplateError) or is_out_of_memory(error):
        return None
    if any(each in str(error).lower() for each in _DEVICE_ERRORS):
        return None
    # Functions written in C have no frame, so their RuntimeError seems to come from the caller.
    if type(error) is not RuntimeError and not frames[-1].f_code.co_filename.startswith(_TORCH):
        return None
    objects = [frame.f_locals.get("self") for frame in frames]
    innermost = next((each for each in reversed(objects) if isinstance(each, (nn.Module, Optimizer))), None)
    if isinstance(innermost, Optimizer):
        key = "optim_wrapper.optimizer" if "optimizer" in cfg.get("optim_wrapper", {}) else "optim_wrapper"
        found = ComponentError(stage, error, key=key, module=type(innermost).__name__)
        found.origin = origin_at(cfg, key)
        return found
    running = [each for each in objects if isinstance(each, nn.Module)]
    names = {id(each): name for name, each in unwrap_model(running[0]).named_modules()} if running else {}
    module = next((each for each in reversed(running) if id(each) in names), None)
    if module is None:
        return None
    name = names[id(module)] or type(module).__name__
    key, section = "model", cfg["model"]  # the innermost section that matches the name of the module
    for part in names[id(module)].split("."):
        if not isinstance(section, Mapping) or not isinstance(section.get(part), Mapping):
            break
        key, section = f"{key}.{part}", section[part]
    is_layer = not any(True for _ in module.children())
    # An error outside a layer, such as in a loss, may also be about heights and widths.
    is_about_channels = is_layer or isinstance(error, IndexError) or "channel" in str(error)
    what = "numbers of channels and classes" if is_about_channels else "shapes of the tensors"
    notes = [*describe_changes(cfg["model"], "model"), f"Check that the {what} match; {DEBUG_HINT}"]
    shapes = _input_shapes(module, frames)
    if shapes and is_layer:
        notes.insert(0, f"{name} is {' '.join(repr(module).split())}; its input is {shapes}")
    found = ComponentError(stage, error, key=key, module=name, notes=notes)
    found.origin = origin_at(cfg, key)
    return found


def _input_shapes(module: nn.Module, frames: Sequence[FrameType]) -> str:
    """Returns the shapes of the tensors that the last call of a module received."""
    calls = [frame.f_locals for frame in frames if frame.f_code is _CALL and frame.f_locals["self"] is module]
    inputs = [*calls[-1]["args"], *calls[-1]["kwargs"].values()] if calls else []
    return ", ".join(str(tuple(each.shape)) for each in inputs if isinstance(each, Tensor))
