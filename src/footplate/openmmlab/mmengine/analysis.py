"""Counts the parameters, floating-point operations and activations of a model, like `mmengine.analysis`."""

from collections import defaultdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Code bases add operators to these tables. The tables are not used: torch.utils.flop_counter counts operations.
_DEFAULT_SUPPORTED_FLOP_OPS: dict[str, Any] = {}
_DEFAULT_SUPPORTED_ACT_OPS: dict[str, Any] = {}
_IGNORED_OPS: set[str] = set()

_LAYERS = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


def _format_size(x: int, sig_figs: int = 3, hide_zero: bool = False) -> str:
    """Formats a number with a unit prefix. For example, 12345678 becomes "12.346M".

    Args:
        x: The number.
        sig_figs: The number of digits after the decimal point.
        hide_zero: Whether to return an empty string for zero.
    """
    if hide_zero and x == 0:
        return ""
    for factor, unit in _UNITS:
        if abs(x) >= factor:
            return f"{x / factor:.{sig_figs}f}{unit}"
    return f"{x}"


def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """Returns the number of elements in each module and in each parameter, keyed by name.

    The key "" stands for the whole model. Shared parameters are counted once.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        _add(counts, name, parameter)
    return counts


def _add(counts: defaultdict[str, int], name: str, value: Any) -> None:
    """Adds the number of elements of a tensor to the counts of `name` and all its parent modules."""
    parts = name.split(".") if name else []
    for end in range(len(parts) + 1):
        counts[".".join(parts[:end])] += value.numel() if isinstance(value, Tensor) else 0


class _Analyzer:
    """Counts a quantity for each module of a model in one forward pass.

    Args:
        model: The model.
        inputs: A tensor, or a tuple of arguments for the forward method.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self._model, self._inputs = model, inputs if isinstance(inputs, tuple) else (inputs,)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            self._counts = self._measure()
        model.train(was_training)

    def _measure(self) -> dict[str, int]:
        raise NotImplementedError

    def by_module(self) -> dict[str, int]:
        """Returns the count for each module, keyed by name, where "" is the whole model."""
        return self._counts

    def total(self, module_name: str = "") -> int:
        """Returns the count for a module, or for the whole model."""
        return self._counts.get(module_name, 0)


class FlopAnalyzer(_Analyzer):
    """Counts the floating-point operations of a forward pass. A multiply-add counts as one operation."""

    def _measure(self) -> dict[str, int]:
        with FlopCounterMode(display=False) as counter:
            self._model(*self._inputs)
        # The names start with the class name of the model.
        counts = {name.partition(".")[2]: sum(each.values()) // 2 for name, each in counter.get_flop_counts().items()}
        return {**counts, "": counter.get_total_flops() // 2}


class ActivationAnalyzer(_Analyzer):
    """Counts the output elements of convolutions and linear layers in a forward pass."""

    def _measure(self) -> dict[str, int]:
        counts: defaultdict[str, int] = defaultdict(int)
        handles = []
        for name, module in self._model.named_modules():
            if isinstance(module, _LAYERS):
                add = partial(lambda name, module, inputs, output: _add(counts, name, output), name)
                handles.append(module.register_forward_hook(add))
        self._model(*self._inputs)
        for handle in handles:
            handle.remove()
        return dict(counts)


def complexity_stats_table(
    flops: FlopAnalyzer, activations: ActivationAnalyzer | None = None, show_param_shapes: bool = True
) -> str:
    """Returns a table of the parameters, operations and activations of each module.

    The table also has a row for each parameter. If `show_param_shapes` is set, these rows show the parameter's shape
    instead of the number of elements.
    """
    shapes = {name: str(tuple(parameter.shape)) for name, parameter in flops._model.named_parameters()}
    rows = [("module", "parameters or shape", "flops", "activations")]
    for name, count in parameter_count(flops._model).items():
        size = shapes[name] if name in shapes and show_param_shapes else _format_size(count)
        totals = [_format_size(each.total(name), hide_zero=True) if each else "" for each in (flops, activations)]
        rows.append((name or "model", size, totals[0], totals[1]))
    return "".join("{:<60} {:>20} {:>12} {:>12}\n".format(*row) for row in rows)


def complexity_stats_str(flops: FlopAnalyzer, activations: ActivationAnalyzer | None = None) -> str:
    """Returns the modules of a model as an indented tree. For the counts, see `complexity_stats_table`."""
    return str(flops._model)


def get_model_complexity_info(
    model: nn.Module,
    input_shape: tuple[int, ...] | tuple[tuple[int, ...], ...] | None = None,
    inputs: Any = None,
    show_table: bool = True,
    show_arch: bool = True,
) -> dict[str, Any]:
    """Counts the operations, activations and parameters of a model, and returns the counts as integers and as strings.

    Args:
        model: The model.
        input_shape: The shape of the input without the batch dimension, such as (C, H, W), or a tuple of shapes for
            several inputs.
        inputs: A tensor, or a tuple of arguments for the forward method, as an alternative to `input_shape`. If both
            are given, as in MMSegmentation's `get_flops.py`, `inputs` must be a tensor of this
            shape, plus the batch dimension.
        show_table: Whether to include a table as `out_table`.
        show_arch: Whether to include a tree of the modules as `out_arch`.

    Raises:
        ValueError: Neither `input_shape` nor `inputs` is given, or they do not match.
    """
    matches = isinstance(inputs, Tensor) and tuple(inputs.shape[1:]) == input_shape
    if (input_shape is None) == (inputs is None) and not matches:
        raise ValueError("Pass 'input_shape' or 'inputs'. If you pass both, 'inputs' must be a tensor of this shape.")
    if inputs is None and input_shape is not None:
        shapes = input_shape if isinstance(input_shape[0], tuple) else (input_shape,)
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        inputs = tuple(torch.randn(1, *shape, device=device) for shape in shapes)
    flops, activations = FlopAnalyzer(model, inputs), ActivationAnalyzer(model, inputs)
    figures = {"flops": flops.total(), "activations": activations.total(), "params": parameter_count(model)[""]}
    texts = {f"{name}_str": _format_size(value) for name, value in figures.items()}
    return {
        **figures,
        **texts,
        "out_table": complexity_stats_table(flops, activations) if show_table else "",
        "out_arch": complexity_stats_str(flops, activations) if show_arch else "",
    }
