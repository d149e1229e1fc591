"""Registers operators in `torch.ops.footplate_operators`.

An operator stays one node in the graphs of `torch.compile` and `torch.export`, which only need the shapes of its
results. Its body may therefore read the values of tensors.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AUTOCAST_DEVICES = ("cpu", "cuda")


class Operator(Generic[_P, _T]):
    """A registered operator, `torch.ops.footplate_operators.<name>`.

    Attributes:
        name: The name of the operator.
        parameters: The names of its parameters.
        dynamic: Whether the size of a result depends on values.
        autocast: The dtype to which autocast casts the inputs, or None if the inputs keep their dtypes.
        batched: The names of the tensors that `torch.vmap` passes to a single call.
        has_gradient: Whether it can be differentiated.
    """

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
        self.parameters = tuple(inspect.signature(function).parameters)
        self.dynamic, self.autocast, self.batched = dynamic, autocast, batched.split()
        self.has_gradient = False

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
            results = self._overload(*values.values())
            if not isinstance(results, tuple):
                return results.unflatten(0, (size, -1)), 0
            return tuple(result.unflatten(0, (size, -1)) for result in results), (0,) * len(results)
        samples = [
            self._overload(*(values | {name: value[index] for name, value in mapped.items()}).values())
            for index in range(size)
        ]
        if not isinstance(samples[0], tuple):
            return torch.stack(samples), 0
        return tuple(map(torch.stack, zip(*samples, strict=True))), (0,) * len(samples[0])

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
        registered = Operator(function, outputs, dynamic=dynamic, constant=constant, autocast=autocast, batched=batched)
        OPERATORS[registered.name] = registered
        return registered

    return register


def filling_operator(
    *, constant: bool = False, autocast: torch.dtype | None = None, batched: str = ""
) -> Callable[[Callable[_P, Iterator[_T]]], Operator[_P, _T]]:
    """Like `operator`, but the function is a generator that yields the allocated results and then fills them."""

    def register(function: Callable[_P, Iterator[_T]]) -> Operator[_P, _T]:
        def outputs(*arguments: _P.args, **named: _P.kwargs) -> _T:
            return next(function(*arguments, **named))

        @wraps(function)
        def run(*arguments: _P.args, **named: _P.kwargs) -> _T:
            (results,) = function(*arguments, **named)
            return results

        signature = inspect.signature(function)
        (result,) = get_args(signature.return_annotation)
        run.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
        return operator(outputs, constant=constant, autocast=autocast, batched=batched)(run)

    return register
