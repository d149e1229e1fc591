"""Builds the model, and applies the options that make training faster or save memory.

The options `compile`, `channels_last`, `activation_checkpointing` and `cuda_graphs` do not change the results, except
for rounding.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from footplate.distributed import check_same_parameters, get_world_size, unwrap_model
from footplate.engine.hook import Hook
from footplate.engine.process_setup import pick_device
from footplate.error_context import at_key, located, with_origins
from footplate.errors import ArgumentError, BuildError
from footplate.messages import list_names
from footplate.models import add_steps, is_plain
from footplate.models.activation_checkpointing import checkpoint_activations
from footplate.models.graphed_step import TURN_OFF, CudaBackend, GraphBackend, GraphedStep, check_capturable
from footplate.module_selection import select_modules
from footplate.registry import MODELS
from footplate.torch_compile import compile_arguments

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
# oneDNN kernels work on blocks of 16 channels with AVX-512, and of 8 with AVX2.
_BLOCK = 16
_RECOMPILE_LIMIT = 8  # torch's default
_MAX_NAMES = 8
_OWN_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile
_CAUSE = (
    "In this format, the backward pass of such a convolution corrupts memory on some CPUs (oneDNN issue 6035)."
    " Other layouts are not affected."
)


def build_model(model: Any, sections: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Builds the model, adapts it if necessary, and moves it to the device.

    Args:
        model: The model, or its config dict.
        sections: Maps the names of the runner's arguments to their values.
        device: The device of this process.

    Raises:
        BuildError: The model cannot be built, or it lacks a method that a run calls.
    """
    if isinstance(model, Mapping):
        settings = dict(model)
        if sections["data_preprocessor"] is not None:
            settings.setdefault("data_preprocessor", sections["data_preprocessor"])
        with at_key("model"):
            model = MODELS.build(with_origins(settings, model))
    if sections["model_adapter"] is not None:
        with at_key("model_adapter"):
            model = MODELS.build(sections["model_adapter"], model=model)
    if not isinstance(model, nn.Module):
        raise BuildError("the model must be a torch.nn.Module or a config dict for one", found=model, key="model")
    for step in () if is_plain(model) else ("train_step", "val_step", "test_step"):
        if not hasattr(model, step):
            raise BuildError(
                f"the model '{type(model).__name__}' has no {step}", key="model", notes=["Derive it from BaseModel."]
            )
    check_same_parameters(model)
    if sections["activation_checkpointing"]:
        checkpoint_activations(unwrap_model(model), sections["activation_checkpointing"])
    model = speed_up(model.to(device), compile=sections["compile"], channels_last=sections["channels_last"])
    return add_steps(model, sections).to(device)  # type: ignore[no-any-return]


def speed_up(model: nn.Module, *, compile: bool | Mapping[str, Any] | None, channels_last: bool) -> nn.Module:
    """Compiles the model and sets its memory format as configured. Names and values of its weights do not change.

    Args:
        model: The model, on its device and not yet wrapped.
        compile: Whether to compile, or the arguments of `torch.compile`. `target` selects the part to compile:
            "forward" for the model, or the path of a submodule, such as "backbone". Alternatively, `regions` selects
            modules to compile individually (see `select_modules`). Modules with the same structure share the compiled
            code.
        channels_last: Whether to store four-dimensional weights in channels-last format. This speeds up convolutions.

    Raises:
        ArgumentError: The model has no such submodule, a value is invalid, or the model has convolutions that corrupt
            memory on a CPU in channels-last format; see `fragile_convolution`.
    """
    if channels_last:
        _refuse_fragile(model, "channels_last", "Remove `channels_last=True`.")
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:  # the model itself may have set its weights to channels last, which no key of the config can undo
        name = fragile_convolution(model)
        weights = [each for each in model.parameters() if each.dim() == 4 and not each.is_contiguous()]
        if name is not None and any(each.is_contiguous(memory_format=torch.channels_last) for each in weights):
            _logger.warning(
                "The model stores its weights in channels-last format and has the convolution '%s'. %s", name, _CAUSE
            )
    settings = dict(compile) if isinstance(compile, Mapping) else {}
    target, regions = settings.pop("target", "forward"), settings.pop("regions", None)
    arguments = compile_arguments(settings if isinstance(compile, Mapping) else compile)
    if arguments is None:
        return model
    if regions is not None:
        if target != "forward":
            raise ArgumentError("'target' and 'regions' cannot both be set", key="compile.regions", found=regions)
        with at_key("compile"), at_key("regions"), located(regions):
            parts = select_modules({name: each for name, each in unwrap_model(model).named_modules() if name}, regions)
        if not parts:
            raise ArgumentError("'regions' selects no module", key="compile.regions", found=regions)
        _compile(list(parts.values()), arguments)
        return model
    try:
        part: Any = model if target == "forward" else model.get_submodule(target)
    except (AttributeError, TypeError) as error:
        raise ArgumentError(
            "'target' must be 'forward' or the name of a submodule of the model",
            key="compile.target",
            found=target,
            notes=[f"submodules: {', '.join(name for name, _ in model.named_children())}"],
        ) from error
    _compile([part], arguments)
    return model


def _compile(parts: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    """Compiles modules in place. Modules with the same structure share the compiled code."""
    if arguments.get("backend") == "eager":
        checkpointed = [each for part in parts for each in part.modules() if hasattr(each, "checkpointed_name")]
        if checkpointed:
            raise ArgumentError(
                f"the backend 'eager' cannot compile a module with activation checkpointing, such as "
                f"'{checkpointed[0].checkpointed_name}', because it would update buffers twice",
                key="compile.backend",
                found="eager",
                notes=["Use 'inductor' or 'aot_eager'."],
            )
    lays_out = (arguments.get("options") or {}).get("layout_optimization", True) is not False
    if arguments.get("backend", "inductor") == "inductor" and lays_out:  # runs convolutions of a CPU channels last
        for part in parts:
            _refuse_fragile(part, "compile", "Set `compile=dict(options=dict(layout_optimization=False))`.")

    def call(part: Any, *args: Any, **kwargs: Any) -> Any:
        return part._call_impl(*args, **kwargs)

    # Beyond its limit, torch runs a function uncompiled. Its default is meant for one module, and counts all models.
    limits: dict[str, Any] = {"recompile_limit": _RECOMPILE_LIMIT * len(parts), "isolate_recompiles": True}
    if not limits.keys() <= inspect.signature(torch.compile).parameters.keys():  # earlier versions of torch
        limits = {}
    compiled = torch.compile(call, **limits, **arguments)
    for part in parts:
        # As `part.compile()` does, which skips modules of torch's own classes. Copies of the model lose this attribute.
        part._compiled_call_impl = functools.partial(compiled, part)


def fragile_convolution(model: nn.Module) -> str | None:
    """Returns the name of a convolution whose backward pass corrupts memory on a CPU, or None if there is none.

    Memory is corrupted if the input of the convolution is in channels-last format.

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
            f"a CPU cannot train the strided 1 x 1 convolution '{name}' in channels-last format, because it has fewer "
            f"than {_BLOCK} channels",
            key=key,
            notes=[_CAUSE, remedy],
        )


class ActivationCheckpointHook(Hook):
    """Warns after the first iteration about selected modules whose `forward` was not called."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._waits = True

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Warns after the first iteration."""
        if not self._waits:
            return
        self._waits = False
        modules = unwrap_model(runner.model).named_modules()
        unused = [name for name, each in modules if getattr(each, "was_checkpointed", None) is False]
        if unused:
            _logger.warning(
                "activation_checkpointing has no effect on %s: the training step does not call their forward methods. "
                "Select modules whose forward methods it calls.",
                list_names(unused, _MAX_NAMES),
            )


def check_cuda_graphs(sections: Mapping[str, Any]) -> None:
    """Checks that a run with these sections can use CUDA graphs.

    Raises:
        ArgumentError: There is no CUDA device, there are several processes, or another key conflicts with graphs. The
            number of processes is known only after the process group is initialized.
    """
    if not sections["cuda_graphs"]:
        return
    settings = sections["compile"] if isinstance(sections["compile"], Mapping) else {}
    options = settings.get("options") or {}
    if (
        settings.get("mode") in _OWN_GRAPHS
        or settings.get("backend") == "cudagraphs"
        or options.get("triton.cudagraphs")
    ):
        raise ArgumentError(
            "`cuda_graphs` and a compiler that creates its own CUDA graphs cannot both be set",
            key="compile",
            found=sections["compile"],
            notes=["Use another mode of `compile`, such as 'max-autotune-no-cudagraphs', or " + TURN_OFF],
        )
    if sections["activation_checkpointing"]:
        raise ArgumentError(
            "`cuda_graphs` and `activation_checkpointing` cannot both be set: a graph cannot restore random states",
            key="cuda_graphs",
            notes=["Remove activation_checkpointing, or " + TURN_OFF],
        )
    if get_world_size() > 1:
        raise ArgumentError(
            "`cuda_graphs` supports only one process", key="cuda_graphs", notes=["Train on one device, or " + TURN_OFF]
        )
    device = pick_device()
    if device.type != "cuda":
        raise ArgumentError(
            "`cuda_graphs` needs a CUDA device",
            key="cuda_graphs",
            found=str(device),
            notes=["Use a GPU, or " + TURN_OFF],
        )


class CudaGraphHook(Hook):
    """Replaces the training step of the model with a `GraphedStep` during training.

    Args:
        backend: A callable that returns the graph backend.
    """

    priority = "LOWEST"  # after hooks that change the model

    def __init__(self, backend: Callable[[], GraphBackend] = CudaBackend) -> None:
        self._create_backend = backend
        self._step: GraphedStep | None = None

    def before_train(self, runner: "Runner") -> None:
        """Replaces the training step. See `check_capturable` for the models that are refused."""
        check_capturable(runner.model)
        model: Any = runner.model
        self._step = model.train_step = GraphedStep(model, self._create_backend())

    def before_train_epoch(self, runner: "Runner") -> None:
        """Drops the graphs if the model has changed."""
        if self._step is not None:
            self._step.drop_outdated()

    def after_val(self, runner: "Runner") -> None:
        """Drops the graphs if the model has changed."""
        if self._step is not None:
            self._step.drop_outdated()

    def after_train(self, runner: "Runner") -> None:
        """Frees the graphs and restores the training step."""
        if self._step is not None:
            self._step = None
            del runner.model.train_step
