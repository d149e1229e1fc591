"""Builds the model and applies the options that save time and memory.

These options (`compile`, `channels_last` and `activation_checkpointing`) do not change results beyond rounding.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from footplate.distributed import check_same_parameters, unwrap_model
from footplate.error_context import at_key, located, with_origins
from footplate.errors import ArgumentError, BuildError
from footplate.models import PLAIN_FUNCTIONS, add_steps, is_plain
from footplate.models.activation_checkpointing import checkpoint_activations
from footplate.module_selection import select_modules
from footplate.registry import MODELS
from footplate.torch_compile import compile_arguments, uses_graphs

# oneDNN kernels process blocks of 16 channels with AVX-512, and blocks of 8 with AVX2.
_BLOCK = 16
_RECOMPILE_LIMIT = 8  # torch's default
_SIGNATURES = {"train": "train_step(data, optim_wrapper)", "val": "val_step(data)", "test": "test_step(data)"}
_CAUSE = (
    "In this format, the backward pass of such a convolution corrupts memory on some CPUs (oneDNN issue 6035)."
    " Other memory formats are not affected."
)


def build_model(model: Any, arguments: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Builds the model, adapts it if necessary, and moves it to the device.

    Args:
        model: The model, a function that returns it, or its config dict.
        arguments: The runner's arguments, keyed by name.
        device: The device of this process.

    Raises:
        BuildError: The model cannot be built, or it lacks a method that a run calls.
    """
    if isinstance(model, Mapping):
        settings = dict(model)
        if arguments["data_preprocessor"] is not None:
            settings.setdefault("data_preprocessor", arguments["data_preprocessor"])
        with at_key("model"):
            model = MODELS.build(with_origins(settings, model))
    elif callable(model) and not isinstance(model, nn.Module):
        model = model()
    if arguments["model_adapter"] is not None:
        with at_key("model_adapter"):
            model = MODELS.build(arguments["model_adapter"], model=model)
    if not isinstance(model, nn.Module):
        raise BuildError(
            "the model must be a torch.nn.Module, a function that returns one, or a config dict",
            found=model,
            key="model",
        )
    for mode in ("train", "val", "test"):
        is_used = arguments[f"{mode}_dataloader"] is not None and not is_plain(model)
        if is_used and not hasattr(model, f"{mode}_step"):
            raise BuildError(
                f"the model '{type(model).__name__}' has no {mode}_step",
                key="model",
                notes=[f"Derive it from BaseModel, or define {_SIGNATURES[mode]}."],
            )
    check_same_parameters(model)
    if arguments["activation_checkpointing"]:
        checkpoint_activations(unwrap_model(model), arguments["activation_checkpointing"])
    model = speed_up(model.to(device), compile=arguments["compile"], channels_last=arguments["channels_last"])
    # Moved again, because `add_steps` adds a data preprocessor.
    return add_steps(model, **{name: arguments[name] for name in PLAIN_FUNCTIONS}).to(device)  # type: ignore[no-any-return]


def speed_up(model: nn.Module, *, compile: bool | Mapping[str, Any] | None, channels_last: bool) -> nn.Module:
    """Compiles the model and sets its memory format as configured, without changing weight names or values.

    Args:
        model: The model, on its device and not yet wrapped.
        compile: Whether to compile, or a dict of arguments for `torch.compile`. `regions` selects modules to
            compile individually; see `select_modules`. Modules with the same structure share the compiled code. As in
            MMEngine's configs, `target` may be "forward".
        channels_last: Whether to store four-dimensional weights in channels-last format, which can speed up
            convolutions.

    Raises:
        ArgumentError: No module is selected, a value is invalid, or a convolution could corrupt memory in
            channels-last format on a CPU; see `_refuse_fragile`.
    """
    if channels_last:
        _refuse_fragile(model, "channels_last", "Remove `channels_last=True`.")
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = dict(compile) if isinstance(compile, Mapping) else {}
    target = settings.pop("target", "forward")
    regions = settings.pop("regions", None)
    arguments = compile_arguments(settings if isinstance(compile, Mapping) else compile)
    if arguments is None:
        return model
    if target != "forward":
        notes = ["To compile only a part of the model, set `regions`."]
        raise ArgumentError("'target' must be 'forward'", key="compile.target", found=target, notes=notes)
    parts = {"": model}
    if regions is not None:
        with at_key("compile.regions"), located(regions):
            parts = select_modules({name: part for name, part in unwrap_model(model).named_modules() if name}, regions)
        if not parts:
            raise ArgumentError("'regions' does not match any module", key="compile.regions", found=regions)
    _compile(list(parts.values()), arguments)
    return model


def _compile(parts: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    """Compiles modules in place. Modules with the same structure share the compiled code."""
    if arguments.get("backend") == "eager":
        checkpointed = [module for part in parts for module in part.modules() if hasattr(module, "checkpointed_name")]
        if checkpointed:
            raise ArgumentError(
                f"the backend 'eager' cannot compile a module with activation checkpointing, such as "
                f"'{checkpointed[0].checkpointed_name}', because it would update buffers twice",
                key="compile.backend",
                found="eager",
                notes=["Use 'inductor' or 'aot_eager'."],
            )
    lays_out = (arguments.get("options") or {}).get("layout_optimization", True) is not False
    if arguments.get("backend", "inductor") == "inductor" and lays_out:  # inductor uses channels-last on CPUs
        for part in parts:
            _refuse_fragile(part, "compile", "Set `compile=dict(options=dict(layout_optimization=False))`.")

    def call(part: Any, *args: Any, **kwargs: Any) -> Any:
        return part._call_impl(*args, **kwargs)

    call.__code__ = call.__code__.replace()  # older versions of torch count the recompilations of a code object
    # Once this limit is exceeded, torch stops compiling the function. The default is meant for a single module, but is
    # shared by all of them.
    limits: dict[str, Any] = {"recompile_limit": _RECOMPILE_LIMIT * len(parts), "isolate_recompiles": True}
    if not limits.keys() <= inspect.signature(torch.compile).parameters.keys():  # older versions of torch
        limits = {}
    compiled = torch.compile(call, **limits, **arguments)
    if uses_graphs(arguments):
        compiled = functools.partial(_copying_losses, compiled)
    for part in parts:
        # Equivalent to `part.compile()`, which would skip torch's own module classes. Copies of the model lose
        # this attribute.
        part._compiled_call_impl = functools.partial(compiled, part)


def _copying_losses(compiled: Callable[..., Any], part: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Clones the losses that a CUDA graph returns, because the next replay may overwrite the originals before use."""
    outputs = compiled(part, *args, **kwargs)
    if not isinstance(outputs, dict):
        return outputs
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in outputs.items()}


def _refuse_fragile(model: nn.Module, key: str, remedy: str) -> None:
    """Raises an error if the backward pass of a convolution could corrupt memory on a CPU.

    This happens with channels-last input: oneDNN's weight-gradient kernel for strided 1 x 1 convolutions writes past
    its workspace if a group has fewer input channels than a block. Whether oneDNN selects this kernel depends on the
    instruction set and the number of threads. The check ignores both, so that a config behaves the same on all CPUs.

    The issue was reported for oneDNN 3.12.0 (in torch 2.13) and for torch 2.14, and is still open. Remove this check
    when the oldest supported torch contains the fix.

    Source: https://github.com/uxlfoundation/oneDNN/issues/6035
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or module.weight.device.type != "cpu":
            continue
        is_strided = set(module.kernel_size) == {1} and max(module.stride) > 1
        if is_strided and module.in_channels // module.groups < _BLOCK:
            raise ArgumentError(
                f"the strided 1 x 1 convolution '{name or type(module).__name__}' cannot be trained on a CPU in "
                f"channels-last format: its groups have fewer than {_BLOCK} input channels",
                key=key,
                notes=[_CAUSE, remedy],
            )
