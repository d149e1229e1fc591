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
_NOT_OF_SIZES = ("out of memory", "can't allocate memory", "cuda error", "cudnn", "cublas", "nccl")


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
    if not frames or not _is_of_torch(error, frames[-1]):
        return None
    at_work = [frame.f_locals["self"] for frame in frames if isinstance(frame.f_locals.get("self"), nn.Module)]
    names = {id(each): name for name, each in unwrap_model(at_work[0]).named_modules()} if at_work else {}
    module = next((each for each in reversed(at_work) if id(each) in names), None)
    if module is None:
        return None
    name = names[id(module)] or type(module).__name__
    key = _section_of(cfg, names[id(module)])
    notes = [*describe_changes(cfg["model"], "model"), f"Make channels and classes fit each other; {_DEBUG}"]
    called = [each for each in frames if each.f_locals.get("self") is module and each.f_code.co_name == "forward"]
    given = _shapes_in(called[-1]) if called else ""
    if given and not any(True for _ in module.children()):
        notes.insert(0, f"{name} is {' '.join(repr(module).split())}; its input is {given}")
    told = TrialError(stage, error, key=key, module=name, notes=notes)
    told.origin = origin_at(cfg, key)
    return told


def _is_of_torch(error: Exception, innermost: FrameType) -> bool:
    if isinstance(error, FootplateError) or any(words in str(error).lower() for words in _NOT_OF_SIZES):
        return False
    # Functions written in C have no frame, so their RuntimeError seems to come from the caller.
    return type(error) is RuntimeError or innermost.f_code.co_filename.startswith(_TORCH)


def _section_of(cfg: Any, name: str) -> str:
    """Returns the key path of the innermost section of `model` that matches a module's name."""
    key, section = "model", cfg["model"]
    for part in name.split("."):
        if not isinstance(section, Mapping) or not isinstance(section.get(part), Mapping):
            break
        key, section = f"{key}.{part}", section[part]
    return key


def _shapes_in(frame: FrameType) -> str:
    """Returns the shapes of the tensors that were passed to a method."""
    code = frame.f_code
    given = [frame.f_locals.get(name) for name in code.co_varnames[1 : code.co_argcount]]
    return ", ".join(str(tuple(each.shape)) for each in given if isinstance(each, Tensor))
