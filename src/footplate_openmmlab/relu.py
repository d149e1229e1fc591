"""Supports code that changes the output of a ReLU in place.

In PyTorch 1.9 and later, the backward pass needs the unchanged output, so such code raises an error.
"""

import logging
import re
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from footplate.distributed import is_distributed
from footplate.engine.control.module_state import record_forward_state

_ERROR = re.compile(r"modified by an inplace operation: .*output \d+ of Relu(Backward0)?,")
_RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_IN_PLACE = (torch.relu_, Tensor.relu_)
_logger = logging.getLogger("footplate.openmmlab")


class InputSavingRelu(TorchFunctionMode):
    """Computes ReLU with `F.threshold`, which saves the input instead of the output for the backward pass.

    The values and gradients are the same as with the built-in ReLU.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        values = dict(zip(("input", "inplace"), args, strict=False)) | kwargs
        return F.threshold(values["input"], 0, 0, func in _IN_PLACE or values.get("inplace", False))


def repair_first_step(model: Any) -> None:
    """Makes a model use `InputSavingRelu` if its first training step modifies the output of a ReLU in place.

    The first step is then repeated. Does nothing in distributed runs, because ranks cannot restart their gradient
    synchronization.
    """
    if is_distributed():
        return
    step, chosen = model.train_step, None

    def first_step(*args: Any, **kwargs: Any) -> Any:
        nonlocal chosen
        if chosen is not None:  # a hook has wrapped this function, so it is called for later steps too
            return chosen(*args, **kwargs)
        restore, chosen = record_forward_state(model), step
        try:
            try:
                return step(*args, **kwargs)
            except RuntimeError as error:
                if not _ERROR.search(str(error)):
                    raise
            _logger.warning(
                "The model changes the output of a ReLU in place, which PyTorch 1.9 and later do not allow. Each ReLU "
                "now saves its input instead, which uses more memory but does not change the results."
            )
            restore()
            chosen = repaired_step
            return repaired_step(*args, **kwargs)
        finally:
            if model.train_step is first_step:
                del model.train_step  # usually, the method of the class takes its place again
                if model.train_step != chosen:
                    model.train_step = chosen

    def repaired_step(*args: Any, **kwargs: Any) -> Any:
        with InputSavingRelu():
            return step(*args, **kwargs)

    model.train_step = first_step
