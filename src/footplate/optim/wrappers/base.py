"""The wrapper that steps an optimizer: accumulation, clipping, and the state of both."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from footplate.checks import check_count
from footplate.config.compiling import compile_arguments
from footplate.distributed.sharding import distribute_like
from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.wrappers import state as states
from footplate.optim.wrappers.checking import check_state
from footplate.optim.wrappers.clipping import Clip, make_clip
from footplate.optim.wrappers.nonfinite import GradientGuard
from footplate.optim.wrappers.stepping import refuse_step, step_of
from footplate.optim.wrappers.syncing import NOTHING, Context, syncing_of
from footplate.records import MessageHub
from footplate.registry import OPTIM_WRAPPERS

_logger = logging.getLogger("footplate.optim")


@OPTIM_WRAPPERS.register_module()
class OptimWrapper:
    """Steps an optimizer: `update_params(loss)` is all that a train step calls.

    Args:
        optimizer: The optimizer.
        accumulative_counts: Over how many losses gradients are summed before a step. The loss is divided by the length
            of the round, also of a last round cut short, so that equally large batches act as one large batch.
        clip_grad: `dict(max_norm=..., norm_type=2)`, or `dict(type="value", clip_value=...)`. The norm before clipping
            is recorded as `train/grad_norm`.
        grad_clip: Another spelling of `clip_grad`.
        on_nonfinite: What happens to a step whose gradients are not finite: "skip", "stop" or "warn"; None leaves it
            to the run, and does not look outside of one.
        compile: Compile the optimizer's step; a dict holds arguments of `torch.compile`. Learning rates then become
            tensors, so that a schedule does not compile anew.

    Attributes:
        keeps_gradients: Leaves the gradients of a step where they are until the next loss, for those who look at them.

    Raises:
        ArgumentError: An argument makes no sense.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(1, 1)
        >>> wrapper = OptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1))
        >>> wrapper.update_params(layer(torch.ones(4, 1)).sum())
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
        *,
        grad_clip: Mapping[str, Any] | None = None,
        on_nonfinite: str | None = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError("an optimizer wrapper wraps a torch optimizer", key="optimizer", found=optimizer)
        if clip_grad is not None and grad_clip is not None:
            raise ArgumentError('"clip_grad" and "grad_clip" mean the same: give one', key="grad_clip")
        self.optimizer = optimizer
        self._accumulative_counts = check_count("accumulative_counts", accumulative_counts)
        settings = clip_grad if clip_grad is not None else grad_clip
        self._clip = make_clip(settings) if settings is not None else None
        self._norms: Any = None
        self._own_policy = on_nonfinite
        self.guard(None)
        self._compiled: Callable[..., Any] | None = None
        arguments = compile_arguments(compile)
        if arguments is not None:
            self._compiled = torch.compile(optimizer.step, **arguments)
            self._make_rates_tensors()
        self.keeps_gradients = False
        self._has_spent_gradients = False
        self.loss_share = 1.0  # how much the next loss weighs beside those of other ranks
        self._inner_count = 0
        self._max_counts = -1
        self._short_round_begin, self._short_round = -1, accumulative_counts
        self._names: dict[int, str] = {}
        self.reasons: Mapping[str, tuple[str, ...]] = {}  # what a constructor went by, by the name of the parameter
        self._holds_gradients = False
        self._unsynced_model: nn.Module | None = None
        self._unsynced: Callable[[], Context] = lambda: NOTHING
        self._resync: Callable[[], None] | None = None
        self._overrides_backward = type(self).backward is not OptimWrapper.backward

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: dict[str, Any] | None = None,
        zero_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Computes gradients of `loss`, a 0-d tensor, and steps when the round of accumulation is full.

        Args:
            loss: What to minimize.
            step_kwargs: Arguments of the optimizer's `step`.
            zero_kwargs: Arguments of the optimizer's `zero_grad`.

        Raises:
            ArgumentError: The loss depends on nothing that is trained.
        """
        if self._has_spent_gradients:
            self._has_spent_gradients = False
            self.zero_grad(**(zero_kwargs or {}))
        if self._overrides_backward:
            self.backward(loss)
        else:
            if not loss.requires_grad:
                raise ArgumentError(
                    "the loss depends on no parameter that is trained",
                    notes=["it was computed from a detached tensor or without gradients, or everything is frozen"],
                )
            loss = self.scale_loss(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            self._inner_count += 1
        if self.should_update():
            self.step(**(step_kwargs or {}))
            if self.keeps_gradients:
                self._has_spent_gradients = True
            else:
                self.zero_grad(**(zero_kwargs or {}))

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Computes gradients of `loss`, a 0-d tensor, and counts one more of the round."""
        self.scale_loss(loss).backward(**kwargs)  # type: ignore[no-untyped-call]
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Clips, and steps the optimizer unless the gradients are not finite and that is to be skipped."""
        clip, norm = self._clip, None
        if clip is not None and clip.gives_norm:
            norm, clip = self._clip_gradients(clip), None
        if self._guard and not self._guard.allows_step(self.optimizer, self._inner_count, norm):
            return
        if clip is not None:
            self._clip_gradients(clip)
        try:
            (self._compiled or step_of(self.optimizer))(**kwargs)
        except (TypeError, RuntimeError) as error:
            refuse_step(self.optimizer, error, kwargs)
            raise

    def zero_grad(self, **kwargs: Any) -> None:
        """Drops the gradients."""
        own = getattr(self.optimizer.zero_grad, "__func__", None) is not Optimizer.zero_grad
        if kwargs or own:
            self.optimizer.zero_grad(**kwargs)
            return
        # What torch's own does, without its entry in a profile, which costs as much as the kernel of a small layer.
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Returns `loss` as its gradients are to be summed: times its share, divided by the length of the round."""
        if self.loss_share != 1:
            loss = loss * self.loss_share
        if self._accumulative_counts == 1:
            return loss
        in_short_round = 0 <= self._short_round_begin <= self._inner_count
        return loss / (self._short_round if in_short_round else self._accumulative_counts)

    def should_update(self) -> bool:
        """Checks whether the round is full, or the last one of the run is as full as it gets."""
        count = self._accumulative_counts
        return count == 1 or self._inner_count % count == 0 or self._inner_count == self._max_counts

    def should_sync(self) -> bool:
        """Checks whether ranks need each other's gradients of the next loss."""
        after, count = self._inner_count + 1, self._accumulative_counts
        return after % count == 0 or after == self._max_counts

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns what the forward and backward pass run in: without gradient exchange while a round fills.

        Args:
            model: The model, wrapped as it is trained.
        """
        if self.should_sync():
            if self._resync is not None:
                self._resync()
            return NOTHING
        if model is not self._unsynced_model:
            self._unsynced_model, (self._unsynced, self._resync) = model, syncing_of(model)
        return self._unsynced()

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Tells where in the run the wrapper stands, so that the last round may be short.

        Args:
            model: The model, for a word on batch statistics.
            init_counts: The losses before.
            max_counts: The losses of the whole run, -1 where nobody knows.
        """
        count = self._accumulative_counts
        self._inner_count, self._max_counts = init_counts, max_counts
        remainder = max_counts % count if max_counts > 0 else 0
        self._short_round_begin = max_counts - remainder if remainder else -1
        self._short_round = remainder or count
        if count > 1:
            self._warn_of_accumulation(model)
        warn_of_long_round("accumulative_counts", count, max_counts)

    def guard(self, policy: str | None) -> None:
        """Sets what happens to a step whose gradients are not finite: "skip", "stop", "warn", or None.

        What the wrapper's own `on_nonfinite` says stays.
        """
        policy = policy if self._own_policy is None else self._own_policy
        self._guard = None if policy is None else GradientGuard(policy)

    def get_lr(self) -> dict[str, list[float]]:
        """Returns `{"lr": [...]}`, one value for each group."""
        return {"lr": [group["lr"] for group in self.param_groups]}

    def get_momentum(self) -> dict[str, list[float]]:
        """Returns `{"momentum": [...]}`: the momentum or first beta of each group, 0 where it has neither."""
        return {"momentum": [momentum_of(group) or 0 for group in self.param_groups]}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups."""
        return self.optimizer.param_groups

    @property
    def defaults(self) -> dict[str, Any]:
        """The optimizer's default settings."""
        return self.optimizer.defaults

    @property
    def parts(self) -> Mapping[str, "OptimWrapper"]:
        """The wrappers of single optimizers by name: this one, without a name, or several."""
        return {"": self}

    def name_parameters(self, model: nn.Module) -> None:
        """Learns what the parameters are called, so that states saved under another grouping find them."""
        for name, parameter in model.named_parameters():
            self._names.setdefault(id(parameter), name)

    def state_dict(self, *, per_parameter: bool = False) -> dict[str, Any]:
        """Returns the optimizer's state and the gradients that the next step will use.

        These are there within a round of accumulation, or where the loss of another optimizer reaches the parameters.

        Args:
            per_parameter: Store one group for each parameter, as other engines do.
        """
        state = self.optimizer.state_dict()
        if per_parameter:
            state = states.per_parameter(state, self._layout())
        elif self._names:
            state = states.name_groups(state, self._layout().names)
        gradients: list[Any] = [each.grad for each in self._parameters()]
        is_left = not self._has_spent_gradients and any(each is not None for each in gradients)
        if is_left or not self.should_update():
            if per_parameter:
                gradients = states.in_order(gradients, self._layout().names, self._layout().known())
            state["accumulated_gradients"] = gradients
        state["optimizer_type"] = type(self.optimizer).__name__
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave, here or in another engine, in this grouping or another.

        Raises:
            CheckpointError: The state belongs to other parameters, or to an optimizer of another class.
        """
        name = type(self.optimizer).__name__
        saved_name = state_dict.get("optimizer_type", name)  # other engines and older checkpoints have none
        if saved_name != name:
            raise CheckpointError(
                f"The checkpoint holds the state of the optimizer {saved_name}, but the config has {name}.",
                notes=[
                    f"Set the optimizer to {saved_name}, or use load_from without resume to start over with {name}."
                ],
            )
        if self._names:
            arranged = states.regrouped(state_dict, self.optimizer.state_dict()["param_groups"], self._layout())
        else:
            arranged = {"state": state_dict["state"], "param_groups": state_dict["param_groups"]}
        check_state(self.optimizer, arranged)
        self.optimizer.load_state_dict(states.placed(arranged, self.param_groups))
        if self._compiled is not None:
            self._make_rates_tensors()
        gradients = state_dict.get("accumulated_gradients")
        self._holds_gradients = gradients is not None
        if gradients is not None and self._names:
            layout = self._layout()
            gradients = states.in_order(
                gradients, states.names_of(state_dict["param_groups"], layout), chain.from_iterable(layout.names)
            )
        for parameter, gradient in zip(self._parameters(), gradients or (), strict=False):
            parameter.grad = (
                None if gradient is None else distribute_like(gradient.to(parameter.device, parameter.dtype), parameter)
            )

    def _clip_gradients(self, clip: Clip) -> Tensor | None:
        norm = clip(self._parameters())
        if norm is None:
            return None
        if self._norms is None:
            self._norms = MessageHub.get_current_instance().history("train/grad_norm")
        self._norms.append(norm)
        return norm

    def _make_rates_tensors(self) -> None:
        for group in self.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _layout(self) -> states.Layout:
        names = [[self._names[id(each)] for each in group["params"]] for group in self.param_groups]
        frozen = {self._names[id(each)] for each in self._parameters() if not each.requires_grad}
        return states.Layout(names, list(self._names.values()), frozenset(frozen))

    def _warn_of_accumulation(self, model: nn.Module) -> None:
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            _logger.warning(
                "accumulative_counts=%d with batch normalization: its statistics are those of the small batches",
                self._accumulative_counts,
            )
        if self._inner_count % self._accumulative_counts and not self._holds_gradients:
            _logger.warning(
                "resumed at iteration %d within a round of %d without its gradients so far: the first step sees fewer",
                self._inner_count,
                self._accumulative_counts,
            )


def warn_of_long_round(name: str, count: int, length: int) -> None:
    """Warns of a round of accumulation that is longer than the run, of `length` iterations; -1 is not known."""
    if 0 < length < count:
        _logger.warning(
            "%s=%d is longer than the run of %d iterations. The optimizer makes one step, at the end. "
            "Set %s to at most %d.",
            name,
            count,
            length,
            name,
            length,
        )


def momentum_of(group: Mapping[str, Any]) -> float | None:
    """Returns the momentum of a group, its first beta where it has betas, None where it has neither."""
    if "momentum" in group:
        momentum: float = group["momentum"]
        return momentum
    return group["betas"][0] if "betas" in group else None
