"""Registers operators in `torch.ops.footplate_operators`.

An operator stays one node in the graphs of `torch.compile` and `torch.export`, which only need the shapes of its
results. Its body may therefore read the values of tensors.
"""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper, wraps
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AUTOCAST_DEVICES = ("cpu", "cuda")


class Operator(Generic[_P, _T]):
    """A registered operator, `torch.ops.footplate_operators.<name>`.

    Attributes:
        name: The name of the operator.
        parameters: Its parameters, by name.
        dynamic: Whether the size of a result depends on values.
        autocast: The dtype to which autocast casts the inputs, or None if the inputs keep their dtypes.
        batched: The names of the tensors that `torch.vmap` passes to a single call.
        has_gradient: Whether it can be differentiated.
    """

    __name__: str

    def __init__(
        self,
        function: Callable[_P, _T],
        outputs: Callable[..., Any],
        *,
        dynamic: bool,
        constant: bool,
        autocast: torch.dtype | None,
        batched: str,
    ) -> None:
        self.name = function.__name__.removeprefix("_")
        self.parameters = inspect.signature(function).parameters
        self.dynamic, self.autocast, self.batched = dynamic, autocast, batched.split()
        self.has_gradient = False
        OPERATORS[self.name] = self
        update_wrapper(self, function)

        @wraps(function)
        def run(*arguments: _P.args, **named: _P.kwargs) -> _T:
            device = next(value.device.type for value in arguments if isinstance(value, Tensor))
            # torch turns off autograd inside operators, but some bodies compute gradients with it.
            autograd = torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)
            with autograd, torch.autocast(device, enabled=False):
                return function(*arguments, **named)

        self._definition = torch.library.custom_op(f"footplate_operators::{self.name}", run, mutates_args=())
        self._definition.register_fake(outputs)
        if not dynamic:
            self._definition.register_vmap(self._map)
        if constant:
            self._definition.register_autograd(_no_gradients, setup_context=_mark_as_constant)
        if autocast is not None:
            for device_type in _AUTOCAST_DEVICES:
                self._definition.register_autocast(device_type, autocast)
        self._overload = getattr(torch.ops.footplate_operators, self.name).default

    def __reduce__(self) -> str:
        return self.__name__  # copies and pickles refer to the operator, like those of a function

    def __call__(self, *arguments: _P.args, **named: _P.kwargs) -> _T:
        result: _T = self._overload(*arguments, **named)
        return result

    def _map(self, info: Any, dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """Calls the operator on inputs with an additional dimension; see `torch.library.register_vmap`."""
        size = info.batch_size
        values = dict(zip(self.parameters, arguments, strict=True))
        mapped = {
            name: values[name].movedim(dim, 0)
            for name, dim in zip(self.parameters, dims, strict=True)
            if isinstance(dim, int)
        }
        if set(mapped) <= set(self.batched):
            for name in self.batched:
                value = mapped[name] if name in mapped else values[name].expand(size, *values[name].shape)
                values[name] = value.flatten(0, 1)
            for name in self.parameters:
                if name.endswith("_shape"):
                    values[name] = [size * values[name][0], *values[name][1:]]
            results = self._overload(*values.values())
            return tree_map(lambda result: result.unflatten(0, (size, -1)), results), tree_map(lambda _: 0, results)
        samples = [
            self._overload(*(values | {name: value[index] for name, value in mapped.items()}).values())
            for index in range(size)
        ]
        return tree_map(lambda *results: torch.stack(results), *samples), tree_map(lambda _: 0, samples[0])

    def differentiate(self, gradient: "Operator[..., Any]", outputs: str, inputs: str) -> None:
        """Registers another operator as the gradient. Second derivatives raise an error.

        The parameters of `gradient` determine what is saved. They are names of inputs and outputs of this operator,
        `x_shape` for the shape of an input `x`, and `grad_y` for the gradient with respect to an output `y`.

        Args:
            gradient: The operator that returns the gradients.
            outputs: The names of the results of this operator, separated by spaces.
            inputs: The names of the inputs to which the gradients belong, separated by spaces.
        """
        names, wanted = outputs.split(), inputs.split()

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            results = output if isinstance(output, tuple) else (output,)
            values = dict(zip(self.parameters, inputs, strict=True)) | dict(zip(names, results, strict=True))
            values |= {f"{name}_shape": value.shape for name, value in values.items() if isinstance(value, Tensor)}
            saved = {name: values[name] for name in gradient.parameters if name in values}
            ctx.names = [name for name, value in saved.items() if isinstance(value, Tensor)]
            ctx.save_for_backward(*(saved.pop(name) for name in ctx.names))
            ctx.settings = saved
            constant = [name for name in names if f"grad_{name}" not in gradient.parameters]
            ctx.mark_non_differentiable(*(values[name] for name in constant))

        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            values = ctx.settings | dict(zip(ctx.names, ctx.saved_tensors, strict=True))
            values |= {f"grad_{name}": grad.contiguous() for name, grad in zip(names, grads, strict=True)}
            found = gradient(*(values[name] for name in gradient.parameters))
            of_input = dict(zip(wanted, found if isinstance(found, tuple) else (found,), strict=True))
            return tuple(of_input.get(name) for name in self.parameters)

        self.register_autograd(backward, setup_context)

    def fill_gradients(self, fill: Callable[..., None], tensors: str, outputs: str) -> None:
        """Registers a function that writes gradients as the operator `<name>_backward`; see `differentiate`.

        Args:
            fill: The function. It takes `tensors`, followed by the settings of this operator.
            tensors: The names of inputs and outputs of this operator, `grad_y` for the gradient with respect to an
                output `y`, and `grad_x` for the tensor of zeros to which the gradient with respect to an input `x` is
                written, separated by spaces.
            outputs: The names of the results of this operator, separated by spaces.
        """
        names, results = tensors.split(), outputs.split()
        wanted = [name for name in self.parameters if f"grad_{name}" in names]
        grads = [f"grad_{name}" for name in results if f"grad_{name}" in names]
        saved = [name for name in (*self.parameters, *results) if name in names]
        shapes = [f"{name}_shape" for name in wanted if name not in names]
        annotations = dict.fromkeys((*grads, *saved), Tensor) | dict.fromkeys(shapes, list[int])
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind, annotation=annotations[name]) for name in annotations]
        parameters += [parameter for parameter in self.parameters.values() if parameter.annotation is not Tensor]

        def allocate(*arguments: Any) -> Any:
            values = dict(zip(annotations, arguments, strict=False))
            found = tuple(
                torch.zeros_like(values[name]) if name in values else arguments[0].new_zeros(values[f"{name}_shape"])
                for name in wanted
            )
            return found if len(found) > 1 else found[0]

        allocate.__name__ = f"{self.name}_backward"
        annotation = tuple[(Tensor,) * len(wanted)] if len(wanted) > 1 else Tensor  # type: ignore[misc]
        allocate.__signature__ = inspect.Signature(parameters, return_annotation=annotation)  # type: ignore[attr-defined]
        known = {*self.batched, *grads, *results}
        batched = [name for name in (*grads, *saved) if name in known] if {*wanted} <= {*self.batched} else ()
        names = [f"grad_{name}" for name in wanted]
        gradient = filling_operator(fill, tensors, batched=" ".join(batched), outputs=" ".join(names))(allocate)
        self.differentiate(gradient, outputs, " ".join(wanted))

    def register_autograd(
        self, backward: Callable[..., tuple[Tensor | None, ...]], setup_context: Callable[..., None]
    ) -> None:
        """Registers a function as the gradient; see `torch.library.register_autograd`."""
        self.has_gradient = True
        self._definition.register_autograd(backward, setup_context=setup_context)


def _mark_as_constant(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.mark_non_differentiable(*(output if isinstance(output, tuple) else (output,)))


def _no_gradients(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
    return (None,) * len(ctx.needs_input_grad)


OPERATORS: dict[str, Operator[..., Any]] = {}
"""All registered operators, by name."""


def operator(
    outputs: Callable[..., Any],
    *,
    dynamic: bool = False,
    constant: bool = False,
    autocast: torch.dtype | None = None,
    batched: str = "",
) -> Callable[[Callable[_P, _T]], Operator[_P, _T]]:
    """Returns a decorator that registers a function as an operator of the same name, without the leading underscore.

    Args:
        outputs: A function that returns empty results of the right shapes and dtypes.
        dynamic: Whether the size of a result depends on values. Such an operator does not support `torch.vmap`.
        constant: Whether autograd treats the results as constants. Otherwise, the backward pass of an operator without
            a gradient raises an error.
        autocast: The dtype to which autocast casts the inputs. If None, the inputs keep their dtypes. In both cases,
            the operator runs without autocast.
        batched: The names of tensors whose first dimension is the sample, separated by spaces. The results start with
            this dimension as well. If only these tensors are mapped, `torch.vmap` adds its dimension to the samples.
            Otherwise it calls the operator in a loop.
    """

    def register(function: Callable[_P, _T]) -> Operator[_P, _T]:
        return Operator(function, outputs, dynamic=dynamic, constant=constant, autocast=autocast, batched=batched)

    return register


def filling_operator(
    fill: Callable[..., None],
    tensors: str,
    fill_gradients: Callable[..., None] | None = None,
    gradient_tensors: str = "",
    *,
    outputs: str = "",
    constant: bool = False,
    autocast: torch.dtype | None = None,
    batched: str = "",
) -> Callable[[Callable[_P, _T]], Operator[_P, _T]]:
    """Like `operator`, but the decorated function allocates the results, and another function writes them.

    Args:
        fill: The function that writes the results. It takes `tensors`, followed by the settings of the operator.
        tensors: The names of inputs and results, separated by spaces.
        fill_gradients: The function that writes the gradients, if any; see `Operator.fill_gradients`.
        gradient_tensors: The names of its tensors.
        outputs: The names of the results. By default, the names in `tensors` that are not inputs.
        constant: See `operator`.
        autocast: See `operator`.
        batched: See `operator`.
    """

    def register(allocate: Callable[_P, _T]) -> Operator[_P, _T]:
        parameters, names = inspect.signature(allocate).parameters, tensors.split()
        results = outputs.split() or [name for name in names if name not in parameters]
        names += [
            name for name, each in parameters.items() if each.annotation is not Tensor and not name.endswith("_shape")
        ]

        @wraps(allocate)
        def run(*arguments: _P.args, **named: _P.kwargs) -> _T:
            allocated = allocate(*arguments, **named)
            values = dict(zip(parameters, arguments, strict=False)) | named
            values |= dict(zip(results, allocated if isinstance(allocated, tuple) else (allocated,), strict=True))
            fill(*(values[name] for name in names))
            return allocated

        registered = operator(allocate, constant=constant, autocast=autocast, batched=batched)(run)
        if fill_gradients is not None:
            registered.fill_gradients(fill_gradients, gradient_tensors, " ".join(results))
        return registered

    return register


coordinates_operator = partial(filling_operator, constant=True, autocast=torch.float32)
"""Like `filling_operator`, for functions of coordinates: autograd treats their results as constants."""

selecting_operator = partial(operator, dynamic=True, constant=True, autocast=torch.float32)
"""Like `operator`, for functions of coordinates whose number of results depends on values."""
