"""Options of the model that change its speed and, beyond rounding, nothing else."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from footplate.errors import ArgumentError, check_flag


def made_fast(model: nn.Module, *, compile: bool | Mapping[str, Any] | None, channels_last: bool) -> nn.Module:
    """Returns the model, compiled and laid out as the config says; names and values of its weights stay.

    Args:
        model: On its device, not yet wrapped.
        compile: Whether, or the arguments of `torch.compile`; `target` names what is compiled: "forward", the model,
            or the path of a part of it, "backbone".
        channels_last: Whether weights of four dimensions lie channels last, which convolutions are faster with.

    Raises:
        ArgumentError: The target is no part of the model, or a value makes no sense.
    """
    if check_flag("channels_last", channels_last):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile is None or compile is False:
        return model
    if compile is not True and not isinstance(compile, Mapping):
        raise ArgumentError("compile is True, False or a dict", key="compile", found=compile)
    settings = {} if compile is True else dict(compile)
    part: Any = _part(model, settings.pop("target", "forward"))

    def call(*args: Any, **kwargs: Any) -> Any:
        return part._call_impl(*args, **kwargs)

    # What `part.compile()` sets, which copies leave behind; but that compiles no module whose class is torch's own.
    part._compiled_call_impl = torch.compile(call, **settings)
    return model


def _part(model: nn.Module, target: Any) -> nn.Module:
    if target == "forward":
        return model
    try:
        return model.get_submodule(target)
    except (AttributeError, TypeError) as error:
        raise ArgumentError(
            "what is compiled is 'forward' or a part of the model",
            key="compile.target",
            found=target,
            notes=[f"parts are {', '.join(name for name, _ in model.named_children())}"],
        ) from error
