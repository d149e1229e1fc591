"""What every layer gave in one training iteration, and what came back through it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Reading:
    """One tensor as it was when a layer gave it.

    Attributes:
        name: Of the module or parameter; "(model)" is the whole.
        kind: The class of the module, with the key of the output where it has several; "gradient" of a parameter.
        dtype: Of the tensor.
        shape: Of the tensor.
        nans: How many entries are NaN.
        infinities: How many are infinite.
        low: The least of the finite ones; NaN where there is none.
        high: The greatest of the finite ones.
        notes: What there is to say about what went in.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    nans: int
    infinities: int
    low: float
    high: float
    notes: str = ""

    @property
    def finite(self) -> bool:
        """Checks whether every entry is."""
        return not self.nans and not self.infinities

    @classmethod
    def of(cls, tensor: Tensor, name: str, kind: str, notes: str = "") -> "Reading":
        """Reads a tensor of any shape, of real or complex numbers; these have the range of both their parts."""
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
    """Reads what each module of a model gives, and the gradients of parameters, in the order in which they come.

    Args:
        model: The model; `close` takes every hook off it again.

    Attributes:
        outputs: Of modules, the inner ones before those that hold them.
        flowing: The gradients of these outputs, from the last to the first.
        gradients: Of parameters, each as it stands behind the backward pass that reached it.
        precision: What autocast casts to while the model runs, "float32" where it is off.
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
                hook = partial(self._on_gradient, name)
                self._handles.append(
                    parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
                )

    def close(self) -> None:
        """Takes the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _on_output(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        kind = type(module).__name__
        for key, tensor in tensors_in(output):
            device = tensor.device.type
            if torch.is_autocast_enabled(device):
                self.precision = f"autocast to {str(torch.get_autocast_dtype(device)).removeprefix('torch.')}"
            notes = "" if bool(tensor.isfinite().all()) else _origin(module, (args, kwargs))
            self.outputs.append(Reading.of(tensor, name, f"{kind}{key}", notes))
            if tensor.requires_grad:
                tensor.register_hook(partial(self._on_flow, name, f"{kind}{key}"))  # type: ignore[no-untyped-call]

    def _on_flow(self, name: str, kind: str, gradient: Tensor) -> None:
        self.flowing.append(Reading.of(gradient, name, kind))

    def _on_gradient(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is not None:
            values = gradient.coalesce().values() if gradient.is_sparse else gradient
            self.gradients.append(Reading.of(values, name, "gradient"))


def tensors_in(found: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields the real and complex tensors in what a module took or gave, each with its place in it: `[0]`, `.loss`."""
    if isinstance(found, Tensor):
        if (found.is_floating_point() or found.is_complex()) and not found.is_sparse:
            yield key, found
    elif isinstance(found, Mapping):
        for name, each in found.items():
            yield from tensors_in(each, f"{key}.{name}")
    elif isinstance(found, (list, tuple)):
        for place, each in enumerate(found):
            yield from tensors_in(each, f"{key}[{place}]")


def _origin(module: nn.Module, taken: Any) -> str:
    """Says what of a module was not finite before it ran."""
    inputs = all(bool(each.isfinite().all()) for _, each in tensors_in(taken))
    weights = all(bool(torch.isfinite(each).all()) for each in module.parameters(recurse=False))
    told = f"inputs {'finite' if inputs else 'not finite'}"
    return told if next(module.parameters(recurse=False), None) is None else f"{told}, weights {_word(weights)}"


def _word(finite: bool) -> str:
    return "finite" if finite else "not finite"
