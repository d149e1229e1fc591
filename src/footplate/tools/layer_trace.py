"""Records the outputs and gradients of every layer in one training iteration."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from footplate.data.structures import BaseDataElement


@dataclass(frozen=True)
class Reading:
    """Statistics of one tensor: the output of a layer or a gradient."""

    name: str  # the name of the module or parameter; "(model)" for the whole model
    kind: str  # the module's class and the path of the tensor in its output, or "gradient" for a parameter
    dtype: str
    shape: tuple[int, ...]
    nans: int  # the number of NaN entries
    infinities: int  # the number of infinite entries
    low: float  # the minimum of the finite entries, NaN if there are none
    high: float  # the maximum of the finite entries, NaN if there are none
    notes: str = ""  # for a non-finite output, whether the module's inputs and weights were finite

    @property
    def finite(self) -> bool:
        """Whether all entries are finite."""
        return not self.nans and not self.infinities

    @classmethod
    def of(cls, tensor: Tensor, name: str, kind: str, notes: str = "") -> "Reading":
        """Returns the statistics of a real or complex tensor. `low` and `high` cover real and imaginary parts."""
        values = tensor.detach()
        finite = values[values.isfinite()]
        finite = torch.view_as_real(finite) if finite.is_complex() else finite
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (float("nan"), float("nan"))
        return cls(
            name=name or "(model)",
            kind=kind,
            dtype=str(values.dtype).removeprefix("torch."),
            shape=tuple(values.shape),
            nans=int(values.isnan().sum()),
            infinities=int(values.isinf().sum()),
            low=low,
            high=high,
            notes=notes,
        )


class LayerTrace:
    """Records the outputs of modules and the gradients of outputs and parameters, in the order of computation.

    Args:
        model: The model. `close` removes all hooks from it.

    Attributes:
        outputs: The outputs of modules. Inner modules come before the modules that contain them.
        flowing: The gradients of these outputs, from the last to the first.
        gradients: The gradients of parameters, read as soon as the backward pass has accumulated them.
        precision: "autocast to ..." with the dtype, or "float32" without autocast.
    """

    def __init__(self, model: nn.Module) -> None:
        self.outputs: list[Reading] = []
        self.flowing: list[Reading] = []
        self.gradients: list[Reading] = []
        self.precision = "float32"
        self._handles: list[Any] = []
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_hook(partial(self._on_output, name), with_kwargs=True))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                record = partial(self._record, self.gradients, name, "gradient")
                register: Any = parameter.register_post_accumulate_grad_hook  # torch declares no types
                self._handles.append(register(lambda each, record=record: record(each.grad)))

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _on_output(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        for key, tensor in readable_tensors(output):
            kind, device = f"{type(module).__name__}{key}", tensor.device.type
            if torch.is_autocast_enabled(device):
                self.precision = f"autocast to {str(torch.get_autocast_dtype(device)).removeprefix('torch.')}"
            notes = ""
            if not tensor.isfinite().all():
                sources = {
                    "inputs": [each for _, each in readable_tensors((args, kwargs))],
                    "weights": module.parameters(False),
                }
                finite = {source: [bool(each.isfinite().all()) for each in found] for source, found in sources.items()}
                notes = ", ".join(
                    f"{source} {'finite' if all(found) else 'non-finite'}"
                    for source, found in finite.items()
                    if found or source == "inputs"
                )
            self.outputs.append(Reading.of(tensor, name, kind, notes))
            if tensor.requires_grad:
                record = partial(self._record, self.flowing, name, kind)
                tensor.register_hook(record)  # type: ignore[no-untyped-call]

    def _record(self, readings: list[Reading], name: str, kind: str, gradient: Tensor) -> None:
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        readings.append(Reading.of(values, name, kind))


def tensors_in(found: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields each tensor in nested values with its path, such as `[0]` or `.loss`."""
    if isinstance(found, Tensor):
        yield key, found
    elif isinstance(found, (Mapping, BaseDataElement)):
        for name, each in found.items():
            yield from tensors_in(each, f"{key}.{name}")
    elif isinstance(found, (list, tuple)):
        for place, each in enumerate(found):
            yield from tensors_in(each, f"{key}[{place}]")


def readable_tensors(found: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors that a `Reading` can describe: dense tensors with floating-point or complex numbers."""
    for key, tensor in tensors_in(found):
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_sparse:
            yield key, tensor
