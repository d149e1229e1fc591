"""Runs code from before PyTorch 1.9 that changes the output of a ReLU in place, which its backward pass needs now."""

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
    """Computes ReLU as a threshold of 0, which has the same values and gradients, but saves its input."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        values = dict(zip(("input", "inplace"), args, strict=False)) | kwargs
        return F.threshold(values["input"], 0, 0, func in _IN_PLACE or values.get("inplace", False))


def repair_relu(error: RuntimeError) -> InputSavingRelu | None:
    """Returns a context in which the step succeeds if the changed output of a ReLU caused the error, otherwise None."""
    if not _ERROR.search(str(error)):
        return None
    _logger.warning(
        "The model changes the output of a ReLU in place, as was possible before PyTorch 1.9. Each ReLU now saves its "
        "input, which takes more memory; the results are the same."
    )
    return InputSavingRelu()
