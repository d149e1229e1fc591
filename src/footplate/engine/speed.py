"""Applies model options that change the speed and, apart from rounding, nothing else."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.torch_compile import compile_arguments

_logger = logging.getLogger("footplate.engine")
# oneDNN kernels work on blocks of 16 channels with AVX-512, and of 8 with AVX2.
_BLOCK = 16
_CAUSE = (
    "Backward of such a convolution, channels last, corrupts memory on some CPUs (oneDNN issue 6035)."
    " Other layouts are not affected."
)


def made_fast(model: nn.Module, *, compile: bool | Mapping[str, Any] | None, channels_last: bool) -> nn.Module:
    """Compiles the model and sets its memory format as the config says. Names and values of its weights do not change.

    Args:
        model: The model, on its device and not yet wrapped.
        compile: Whether to compile, or the arguments of `torch.compile`. `target` names what to compile: "forward" for
            the model, or the path of a submodule, such as "backbone".
        channels_last: Whether to store four-dimensional weights channels last, which speeds up convolutions.

    Raises:
        ArgumentError: The target is no part of the model, a value makes no sense, or a CPU would run convolutions
            channels last that corrupt memory there; see `fragile_convolution`.
    """
    if channels_last:
        _refuse_fragile(model, "channels_last", "Remove `channels_last=True`.")
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        _warn_of_own_layout(model)
    settings = dict(compile) if isinstance(compile, Mapping) else {}
    target = settings.pop("target", "forward")
    arguments = compile_arguments(settings if isinstance(compile, Mapping) else compile)
    if arguments is None:
        return model
    part: Any = _part(model, target)
    if _lays_out(arguments):
        _refuse_fragile(part, "compile", "Set `compile=dict(options=dict(layout_optimization=False))`.")

    def call(*args: Any, **kwargs: Any) -> Any:
        return part._call_impl(*args, **kwargs)

    # As `part.compile()` does, which skips modules of torch's own classes. Copies of the model lose this attribute.
    part._compiled_call_impl = torch.compile(call, **arguments)
    return model


def fragile_convolution(model: nn.Module) -> str | None:
    """Returns the name of a convolution whose backward pass corrupts memory on a CPU if its input is channels last.

    oneDNN's kernel for the gradient of strided 1 x 1 weights writes past its workspace if a group has fewer input
    channels than a block. Whether oneDNN selects that kernel depends on the instruction set and the number of threads.
    The check ignores both, so that a config works either on all processors or on none.

    Source: https://github.com/uxlfoundation/oneDNN/issues/6035
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or module.weight.device.type != "cpu":
            continue
        strided = set(module.kernel_size) == {1} and max(module.stride) > 1
        if strided and module.in_channels // module.groups < _BLOCK:
            return name or type(module).__name__
    return None


def _refuse_fragile(model: nn.Module, key: str, remedy: str) -> None:
    name = fragile_convolution(model)
    if name is not None:
        raise ArgumentError(
            f"a CPU cannot train the strided 1 x 1 convolution '{name}' of fewer than {_BLOCK} channels channels last",
            key=key,
            notes=[_CAUSE, remedy],
        )


def _warn_of_own_layout(model: nn.Module) -> None:
    """Warns if the model itself has set its weights to channels last, which no key of the config can undo."""
    name = fragile_convolution(model)
    chosen = any(
        weight.dim() == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
        for weight in model.parameters()
    )
    if name is not None and chosen:
        _logger.warning("The model lays its weights out channels last and has the convolution '%s'. %s", name, _CAUSE)


def _lays_out(arguments: Mapping[str, Any]) -> bool:
    """Checks whether the compiler runs convolutions of a CPU channels last, which inductor does by default."""
    options = arguments.get("options") or {}
    return arguments.get("backend", "inductor") == "inductor" and options.get("layout_optimization", True) is not False


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
