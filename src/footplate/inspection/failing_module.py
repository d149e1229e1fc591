"""Which module of a model an error was raised in, and which section of the config describes that module."""

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
# Errors of the device or of its memory: the module at work when they come has nothing wrong.
_NOT_OF_SIZES = ("out of memory", "can't allocate memory", "cuda error", "cudnn", "cublas", "nccl")


class TrialError(FootplateError):
    """What code of a model, a hook or a data set raised while it ran; `__cause__` is that.

    Args:
        stage: What the run was doing.
        error: What was raised.
        key: The section of the config that it most likely belongs to.
        module: The name of the module of the model that raised it, "" where none did.
        notes: Further lines.
    """

    def __init__(
        self, stage: str, error: Exception, *, key: str, module: str = "", notes: Sequence[str] = (_DEBUG,)
    ) -> None:
        first = str(error).strip().partition("\n")[0]
        place = f" in {module}" if module else ""
        super().__init__(f"{stage} fails{place}: {type(error).__name__}: {first}", key=key, notes=notes)
        self.stage = stage


def module_error(stage: str, error: Exception, cfg: Any) -> TrialError | None:
    """Returns an error that names the module of the model that torch refused an operation in, and its section.

    Args:
        stage: What the run was doing.
        error: What was raised.
        cfg: The config, in the second generation.

    Returns:
        None where no module was at work, or where torch does not complain about what the module was given.
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
    # What is written in C has no frame: its RuntimeError seems to come from whoever called it.
    return type(error) is RuntimeError or innermost.f_code.co_filename.startswith(_TORCH)


def _section_of(cfg: Any, name: str) -> str:
    """Returns the key path of the innermost section of `model` that a module's name leads to."""
    key, section = "model", cfg["model"]
    for part in name.split("."):
        if not isinstance(section, Mapping) or not isinstance(section.get(part), Mapping):
            break
        key, section = f"{key}.{part}", section[part]
    return key


def _shapes_in(frame: FrameType) -> str:
    """Returns the shapes of the tensors that a method was given."""
    code = frame.f_code
    given = [frame.f_locals.get(name) for name in code.co_varnames[1 : code.co_argcount]]
    return ", ".join(str(tuple(each.shape)) for each in given if isinstance(each, Tensor))
