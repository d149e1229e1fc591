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


def repair_relu(error: RuntimeError) -> InputSavingRelu | None:
    """Returns a context manager that lets the model modify the output of a ReLU in place.

    Returns None if `error` has a different cause.
    """
    if not _ERROR.search(str(error)):
        return None
    _logger.warning(
        "The model modifies the output of a ReLU in place, which PyTorch 1.9 and later do not allow. Each ReLU now "
        "saves its input instead, which uses more memory but does not change the results."
    )
    return InputSavingRelu()
