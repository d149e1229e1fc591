"""Finds the module of a model that raised an error, and the config section that describes the module."""

import os
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from footplate.distributed import unwrap_model
from footplate.error_context import describe_changes, origin_at
from footplate.errors import FootplateError

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_DEBUG = "--debug shows where"
# Errors of the device or its memory are not the fault of the module that was running.
_DEVICE_ERRORS = ("out of memory", "can't allocate memory", "cuda error", "cudnn", "cublas", "nccl")


class TrialError(FootplateError):
    """An error that a model, a hook or a dataset raised while it ran, available as `__cause__`.

    Args:
        stage: What the run was doing.
        error: The original error.
        key: The config section that most likely caused it.
        module: The name of the module of the model that raised it, or "".
        notes: Further lines of the message.
    """

    def __init__(
        self, stage: str, error: Exception, *, key: str, module: str = "", notes: Sequence[str] = (_DEBUG,)
    ) -> None:
        first = str(error).strip().partition("\n")[0]
        place = f" in {module}" if module else ""
        super().__init__(f"{stage} fails{place}: {type(error).__name__}: {first}", key=key, notes=notes)
        self.stage = stage


def module_error(stage: str, error: Exception, cfg: Any) -> TrialError | None:
    """Returns an error that names the module in which a torch operation failed, and its config section.

    Args:
        stage: What the run was doing.
        error: The original error.
        cfg: The config, in the second generation.

    Returns:
        None if no module was running, or if the error is not about the module's inputs.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if not frames or isinstance(error, FootplateError) or any(each in str(error).lower() for each in _DEVICE_ERRORS):
        return None
    # Functions written in C have no frame, so their RuntimeError seems to come from the caller.
    if type(error) is not RuntimeError and not frames[-1].f_code.co_filename.startswith(_TORCH):
        return None
    running = [frame.f_locals["self"] for frame in frames if isinstance(frame.f_locals.get("self"), nn.Module)]
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
    notes = [*describe_changes(cfg["model"], "model"), f"Make channels and classes fit each other; {_DEBUG}"]
    shapes = _input_shapes(frames, module)
    if shapes and not any(True for _ in module.children()):
        notes.insert(0, f"{name} is {' '.join(repr(module).split())}; its input is {shapes}")
    found = TrialError(stage, error, key=key, module=name, notes=notes)
    found.origin = origin_at(cfg, key)
    return found


def _input_shapes(frames: Sequence[FrameType], module: nn.Module) -> str:
    """Returns the shapes of the tensors that were passed to the innermost `forward` of a module."""
    calls = [each for each in frames if each.f_locals.get("self") is module and each.f_code.co_name == "forward"]
    if not calls:
        return ""
    code = calls[-1].f_code
    values = [calls[-1].f_locals.get(name) for name in code.co_varnames[1 : code.co_argcount]]
    return ", ".join(str(tuple(each.shape)) for each in values if isinstance(each, Tensor))
