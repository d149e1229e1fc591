"""Finds the module of a model that raised an error, and the config section that describes the module."""

import inspect
import os
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn

from footplate.distributed import unwrap_model
from footplate.error_context import describe_changes, origin_at
from footplate.errors import DEBUG_HINT, FootplateError

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_CALL = nn.Module.__call__.__code__  # runs whenever a module is called
# Errors of the device or its memory are not the fault of the module that was running.
MEMORY_ERRORS = ("out of memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator")
_DEVICE_ERRORS = (*MEMORY_ERRORS, "cuda error", "cudnn", "cublas", "nccl")


class TrialError(FootplateError):
    """A model, a hook or a dataset failed during a trial. The original error is `__cause__`.

    Args:
        stage: The stage of the run, such as "training iteration 1".
        error: The original error.
        key: The config section that most likely caused it.
        module: The name of the module of the model that raised it, or "".
        notes: Further lines of the message. The default is the hint that `--debug` shows where it was raised.
    """

    def __init__(self, stage: str, error: Exception, *, key: str, module: str = "", notes: Sequence[str] = ()) -> None:
        first = str(error).strip().partition("\n")[0]
        place = f" in {module}" if module else ""
        message = f"{stage} fails{place}: {type(error).__name__}: {first}"
        super().__init__(message, key=key, notes=notes, hides_cause=not notes)
        self.stage = stage


def module_error(stage: str, error: Exception, cfg: Any) -> TrialError | None:
    """Returns an error that names the module in which a torch operation failed, and its config section.

    Args:
        stage: The stage of the run, such as "training iteration 1".
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
    is_layer = not any(True for _ in module.children())
    # An error outside a layer, such as in a loss, may also be about heights and widths.
    is_about_channels = is_layer or isinstance(error, IndexError) or "channel" in str(error)
    what = "numbers of channels and classes" if is_about_channels else "shapes of the tensors"
    notes = [*describe_changes(cfg["model"], "model"), f"Check that the {what} match; {DEBUG_HINT}"]
    calls = [frame.f_locals for frame in frames if frame.f_code is _CALL and frame.f_locals["self"] is module]
    if calls:
        inputs = [*calls[-1]["args"], *calls[-1]["kwargs"].values()]
    else:  # the parent called `forward` directly
        code = getattr(inspect.unwrap(module.forward), "__code__", None)
        arguments = [inspect.getargvalues(frame) for frame in frames if frame.f_code is code]
        own = [each for each in arguments if each.args and each.locals.get(each.args[0]) is module]
        inputs = [own[-1].locals.get(name) for name in own[-1].args] if own else []
    shapes = ", ".join(str(tuple(each.shape)) for each in inputs if isinstance(each, Tensor))
    if shapes and is_layer:
        notes.insert(0, f"{name} is {' '.join(repr(module).split())}; its input is {shapes}")
    found = TrialError(stage, error, key=key, module=name, notes=notes)
    found.origin = origin_at(cfg, key)
    return found
