"""Finds the module that raised an error, and the module's config section."""

import os
import re
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from footplate.advice import OUT_OF_MEMORY, advice_about
from footplate.distributed import unwrap_model
from footplate.engine.plan.invalid_labels import MODULE_CALL, inputs_of, label_advice
from footplate.error_context import describe_changes, join_path, origin_at, walk_paths
from footplate.errors import FootplateError
from footplate.messages import describe_exception

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
# not caused by the running module
_DEVICE_ERRORS = ("cuda error", "cudnn", "cublas", "nccl", "cuda enabled", "nvidia driver", "default process group")
_CHECK = "Check that shapes and dtypes match, for example the numbers of channels and classes"


class ComponentError(FootplateError):
    """Raised if a model, an optimizer, a hook or a dataset fails. The original error is its `__cause__`.

    Args:
        stage: The stage of the run, such as "training iteration 1".
        error: The original error.
        key: The config section that most likely caused the error.
        module: The name of the module that raised the error, or "" if unknown.
        notes: Additional lines of the message.
    """

    def __init__(self, stage: str, error: Exception, *, key: str, module: str = "", notes: Sequence[str] = ()) -> None:
        place = f" in {module}" if module else ""
        message = f"{stage} fails{place}: {describe_exception(error)}"
        super().__init__(
            message, key=key, notes=list(dict.fromkeys([*notes, *getattr(error, "__notes__", ())])), shows_cause=True
        )
        self.stage = stage


def is_out_of_memory(error: BaseException) -> bool:
    """Checks whether an error means that the host or the device is out of memory."""
    return re.search(OUT_OF_MEMORY, f"{type(error).__name__}: {error}") is not None


def module_error(stage: str, error: Exception, cfg: Any) -> ComponentError | None:
    """Returns an error that shows the module or optimizer where a torch operation failed, and its config section.

    Args:
        stage: The stage of the run, such as "training iteration 1".
        error: The original error.
        cfg: The config, in second-generation form.

    Returns:
        The error, or None if no module or optimizer was running, or for failures with another cause, such as running
        out of memory.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if not frames or isinstance(error, FootplateError) or is_out_of_memory(error):
        return None
    if any(name in str(error).lower() for name in _DEVICE_ERRORS):
        return None
    # Functions written in C have no frame, so their RuntimeError seems to come from the caller.
    if type(error) is not RuntimeError and not frames[-1].f_code.co_filename.startswith(_TORCH):
        return None
    owners = [frame.f_locals.get("self") for frame in frames]
    running = [owner for owner in owners if isinstance(owner, (nn.Module, Optimizer))]
    notes: list[str] = []
    if running and isinstance(running[-1], Optimizer):
        key = "optim_wrapper.optimizer" if "optimizer" in cfg.get("optim_wrapper", {}) else "optim_wrapper"
        name = type(running[-1]).__name__
    else:
        modules = [owner for owner in running if isinstance(owner, nn.Module)]
        names = {id(module): name for name, module in unwrap_model(modules[0]).named_modules()} if modules else {}
        module = next((module for module in reversed(modules) if id(module) in names), None)
        if module is None:
            return None
        name = names[id(module)] or type(module).__name__
        parts = ["model", *names[id(module)].split(".")]
        sections = [path for path, value in walk_paths(cfg["model"], ["model"]) if isinstance(value, Mapping)]
        matches = [path for path in sections if [str(step) for step in path] == parts[: len(path)]]
        key = join_path(max(matches, key=len, default=["model"]))
        notes = describe_changes(cfg["model"], "model")
        notes += label_advice(error) or advice_about(error) or [_CHECK]
        calls = [frame.f_locals for frame in frames if frame.f_code is MODULE_CALL]
        inputs = next((inputs_of(call) for call in reversed(calls) if call["self"] is module), [])
        shapes = ", ".join(str(tuple(value.shape)) for value in inputs if isinstance(value, Tensor))
        if shapes and not list(module.children()):  # a layer
            notes.insert(0, f"{name} is {' '.join(repr(module).split())}; its input is {shapes}")
    found = ComponentError(stage, error, key=key, module=name, notes=notes)
    found.origin = origin_at(cfg, key)
    return found
