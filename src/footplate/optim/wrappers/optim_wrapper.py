"""The optimizer wrapper, which handles the backward pass, gradient accumulation, clipping and the optimizer state."""

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from footplate.data.waiting import data_wait
from footplate.distributed.collectives import average_gradients
from footplate.distributed.sharding import distribute_like, is_dtensor
from footplate.distributed.wrappers import ModelDistributedDataParallel
from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.wrappers import optimizer_state
from footplate.optim.wrappers.accumulation import Accumulation
from footplate.optim.wrappers.gradient_checks import GradientGuard, build_clipper, foreign_gradients_error
from footplate.optim.wrappers.weighted_round import WeightedRound
from footplate.records import MessageHub
from footplate.registry import OPTIM_WRAPPERS
from footplate.weighted import Weighted

Context = AbstractContextManager[Any]
NO_CONTEXT: Context = nullcontext()


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(Accumulation):
    """Wraps an optimizer: `update_params(loss)` runs the backward pass and steps the optimizer.

    Args:
        optimizer: The optimizer.
        accumulative_counts: The number of losses whose gradients are accumulated per step. Each loss is divided by this
            number or, at the end of the run, by the number of remaining losses. Accumulating batches of equal size is
            therefore equivalent to using one large batch. For batches of different sizes, use `Weighted` losses.
        clip_grad: `dict(max_norm=..., norm_type=2)` or `dict(type="value", clip_value=...)`. If gradients are clipped
            by norm, the norm before clipping is recorded as `train/grad_norm` or, if the run has several optimizers, as
            `train/<name>.grad_norm`.
        grad_clip: An alias for `clip_grad`.
        on_nonfinite: What to do about non-finite gradients: "skip", "stop" or "warn". By default, the run's policy
            applies, and gradients are not checked outside a run.

    Attributes:
        has_scaler: Whether a loss scaler skips steps with non-finite gradients.
        reasons: The `paramwise_cfg` keys that applied, by parameter name. Set by `build_optim_wrapper`.
        message_hub: The hub that records the gradient norm: the current hub or, after `join_run`, the hub of the run.
        keeps_gradients: Whether `update_params` clears the gradients before the next backward pass instead of after the
            step.
        isolated: Whether the backward pass computes gradients only for this optimizer's parameters; see `join_run`.
        data_parallel: The model wrapper that averages gradients over processes, or None. Its `train_step` sets this
            attribute. The wrapper skips parameters that were frozen when the model was wrapped. If they are unfrozen
            later, the optimizer wrapper averages their gradients.

    Raises:
        ArgumentError: An argument is invalid.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(1, 1)
        >>> wrapper = OptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1))
        >>> wrapper.update_params(layer(torch.ones(4, 1)).sum())
    """

    has_scaler = False
    reasons: Mapping[str, tuple[str, ...]] = {}
    isolated = keeps_gradients = False
    _norm_name = "train/grad_norm"
    data_parallel: ModelDistributedDataParallel | None = None

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
        *,
        grad_clip: Mapping[str, Any] | None = None,
        on_nonfinite: str | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError("an optimizer wrapper requires a torch optimizer", key="optimizer", found=optimizer)
        if clip_grad is not None and grad_clip is not None:
            raise ArgumentError("'clip_grad' and 'grad_clip' cannot both be set: they are aliases", key="grad_clip")
        super().__init__(accumulative_counts)
        self.optimizer = optimizer
        settings = grad_clip if clip_grad is None else clip_grad
        self._clipper = None if settings is None else build_clipper(settings)
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        self._needs_closure = closure is not None and closure.default is closure.empty
        self._own_policy = on_nonfinite
        self.set_nonfinite_policy(None)
        self.message_hub = MessageHub.get_current_instance()
        # Which gradients later steps need; see `state_dict`.
        self._called_backward = self._called_zero_grad = False  # since the latest step
        self._clears_between_steps = False  # whether both were called between the two latest steps
        self._is_sharded = any(map(is_dtensor, self.parameters()))
        self._names: dict[int, str] = {}  # keyed by parameter id
        self._named: dict[str, Tensor] = {}
        self._initial_groups = len(optimizer.param_groups)

    def update_params(
        self,
        loss: Tensor | Weighted,
        step_kwargs: dict[str, Any] | None = None,
        zero_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Runs the backward pass, and steps the optimizer when gradient accumulation is complete.

        Args:
            loss: The loss to minimize, a scalar tensor. If it is `Weighted`, the gradients of a step are those of the
                weighted mean over all its batches and processes.
            step_kwargs: Arguments for the optimizer's `step`.
            zero_kwargs: Arguments for the optimizer's `zero_grad`.

        Raises:
            ArgumentError, NonFiniteError: See `backward` and `step`.
        """
        if self.keeps_gradients and self.should_update():  # at the start of an accumulation round
            self.zero_grad(**(zero_kwargs or {}))
        self.backward(self.scale_loss(loss))
        if self.should_update():
            self.step(**(step_kwargs or {}))
            if not self.keeps_gradients:
                self.zero_grad(**(zero_kwargs or {}))

    def backward(self, loss: Tensor | Weighted, **kwargs: Any) -> None:
        """Runs the backward pass for the scalar tensor `loss`, and counts the loss for gradient accumulation.

        The loss is not divided for gradient accumulation, unless it is `Weighted`. To divide it, pass the result of
        `scale_loss`.

        How the gradients are averaged over the ranks, in data-parallel runs only if `should_sync`:

        | run | prepared by | gradients of | averaged by |
        |---|---|---|---|
        | one process | - | all parameters | - |
        | data-parallel | `prepare_backward` | all parameters | DDP's reducer; for `unreduced`, `average_gradients` |
        | data-parallel, `isolated` | - | this optimizer's parameters | `average_gradients` |
        | sharded | - | all parameters | torch's FSDP, in each backward pass |

        With `isolated`, one process and sharded runs also compute only the gradients of this optimizer's parameters.
        The reducer averages only gradients that `prepare_backward` has announced: the forward pass in
        `ModelDistributedDataParallel.train_step` runs without gradients, and does not prepare it.

        Raises:
            ArgumentError: The loss does not depend on any trainable parameter.
        """
        if isinstance(loss, Weighted):
            loss = self.scale_loss(loss)
        if not loss.requires_grad:
            raise ArgumentError(
                "the loss does not depend on any trainable parameter",
                notes=["Check for detached tensors, torch.no_grad() and frozen parameters in the model."],
            )
        data_parallel = self.data_parallel
        has_inputs = True
        if self.isolated:
            kwargs["inputs"] = [parameter for parameter in self.parameters() if parameter.requires_grad]
            has_inputs = bool(kwargs["inputs"])  # False while all are frozen
        elif data_parallel is not None:
            loss = data_parallel.prepare_backward(loss, self.should_sync())
        if has_inputs:
            loss.backward(**kwargs)  # type: ignore[no-untyped-call]
        if data_parallel is not None and self.should_sync():
            average_gradients(self.parameters() if self.isolated else data_parallel.unreduced)
        self._inner_count += 1
        self._called_backward = True

    def step(self, **kwargs: Any) -> None:
        """Clips the gradients and steps the optimizer. The guard may skip the step if gradients are non-finite.

        `AmpOptimWrapper.step` calls this method after unscaling the gradients, if they are clipped or checked.

        Raises:
            ArgumentError: The gradients have to be scaled or averaged over processes, but were not computed with
                `backward`. Also raised if the parameters are sharded and none of them has a gradient, or if the
                optimizer needs a closure, such as LBFGS, and `kwargs` has none.
            NonFiniteError: The gradients are non-finite and the policy is "stop".
        """
        if data_wait.work:  # saves the call in all steps but the first one of a process
            data_wait.keep()
        if not self._called_backward and self.data_parallel is not None:
            raise foreign_gradients_error()
        if self._needs_closure and "closure" not in kwargs:
            raise ArgumentError(
                f"{type(self.optimizer).__name__} needs a closure, since it computes the loss several times in a step",
                key="optim_wrapper",
                notes=[
                    "Use another optimizer, or pass training_step(model, batch, optimizer), which calls "
                    "optimizer.step(closure=closure).",
                    "The closure clears the gradients, computes the loss, calls loss.backward() and returns the loss.",
                ],
            )
        self._clears_between_steps = self._called_zero_grad and self._called_backward
        self._called_backward = self._called_zero_grad = False
        if self._is_sharded and all(parameter.grad is None for parameter in self.parameters()):
            raise ArgumentError(
                "there are no gradients, possibly because a part of the sharded model was called outside `forward`",
                key="model_wrapper_cfg",
                notes=["In `train_step`, call it inside `self(...)`, or select it with `shard`."],
            )
        if self._weights:
            self._weights.finish(self.parameters())
        # Clip by norm before the guard, which does not check the gradients if the norm is finite. Clip by value after
        # the guard, because clipping would replace infinite values.
        clipper = self._clipper
        norm = None
        if clipper and clipper.gives_norm:
            norm = clipper(self.parameters())
            self.message_hub.scalar(self._norm_name).append(norm)  # type: ignore[arg-type]  # it gives a norm
        if not self._may_step(norm):
            return
        if clipper and not clipper.gives_norm:
            clipper(self.parameters())
        self._step_optimizer(**kwargs)

    def _may_step(self, norm: Tensor | None) -> bool:
        """Checks whether to step; see the table in `GradientGuard`. Without a guard, always returns True."""
        return self._guard is None or self._guard.allows_step(
            self.optimizer, self._inner_count, norm, message_hub=self.message_hub, has_scaler=self.has_scaler
        )

    def _step_optimizer(self, **kwargs: Any) -> None:
        self.optimizer.step(**kwargs)

    def zero_grad(self, **kwargs: Any) -> None:
        """Clears the gradients."""
        self.optimizer.zero_grad(**kwargs)
        if self._weights:
            self._weights.discard()
        self._called_zero_grad = True

    def record_losses(self) -> Callable[[], None]:
        """Records the accumulation round and what else `backward` and `zero_grad` change, apart from gradients.

        Returns:
            A function that restores the recorded state, if `step` has not been called since.
        """
        recorded = {**vars(self), "_weights": copy.copy(self._weights)}
        return lambda: vars(self).update(recorded)

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns a context manager for the forward pass.

        If `model` is a DistributedDataParallel wrapper, as in model wrappers of OpenMMLab code bases, it disables
        gradient synchronization while gradients are accumulated. The engine passes the model itself, and synchronizes
        in `prepare_backward`.

        Args:
            model: The model, or its wrapper for distributed training.
        """
        no_sync = None if self.should_sync() else getattr(model, "no_sync", None)
        return no_sync() if no_sync else NO_CONTEXT

    def set_nonfinite_policy(self, policy: str | None) -> None:
        """Sets the policy for non-finite gradients, unless the wrapper was created with `on_nonfinite`.

        Args:
            policy: "skip", "stop" or "warn". None disables the check.
        """
        policy = policy if self._own_policy is None else self._own_policy
        self._guard = None if policy is None else GradientGuard(policy)

    def warn_of_skipped_steps(self, iteration: int) -> None:
        """Warns about steps that the optimizer has skipped on the device because of non-finite gradients."""
        if self._guard:
            self._guard.warn_of_skipped(iteration)

    def join_run(self, message_hub: MessageHub, name: str, *, isolated: bool) -> None:
        """Adapts to a run, which calls this method after moving the model to its device.

        Args:
            message_hub: The run's hub.
            name: The optimizer's name, or "" if the run has only one optimizer.
            isolated: Whether the run has several optimizers and a plain module, whose `training_step` may compute
                losses that also depend on the parameters of other optimizers.
        """
        self.message_hub = message_hub
        if name:
            self._norm_name = f"train/{name}.grad_norm"
        self.isolated = isolated
        self._adapt_to_device()

    def _adapt_to_device(self) -> None:
        """Adapts to the device of the parameters, which matters only for mixed precision."""

    def get_lr(self) -> dict[str, list[float]]:
        """Returns `{"lr": [...]}` with one value per parameter group."""
        return {"lr": [group["lr"] for group in self.param_groups]}

    def get_momentum(self) -> dict[str, list[float]]:
        """Returns `{"momentum": [...]}` with the momentum or first beta of each group, or 0 if it has neither."""
        return {"momentum": [group.get("momentum", group.get("betas", (0,))[0]) or 0 for group in self.param_groups]}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups."""
        return self.optimizer.param_groups

    def parameters(self) -> list[Tensor]:
        """Returns the parameters of all groups."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @property
    def defaults(self) -> dict[str, Any]:
        """The optimizer's default settings."""
        return self.optimizer.defaults

    @property
    def parts(self) -> Mapping[str, "OptimWrapper"]:
        """The wrappers for the individual optimizers, keyed by name. A single wrapper has the key ""."""
        return {"": self}

    def name_parameters(self, model: nn.Module) -> None:
        """Stores the parameter names, so that states with different parameter groups can be loaded."""
        for name, parameter in model.named_parameters():
            self._names.setdefault(id(parameter), name)
            self._named.setdefault(name, parameter)

    def state_dict(self) -> dict[str, Any]:
        """Returns the optimizer state, the loss counts for gradient accumulation, and any accumulated gradients.

        Gradients are left out if the latest step has used them and the loop will clear them before the next step. This
        is assumed if it called `zero_grad` and `backward` between the two latest steps, and has called neither since:

        | calls in each iteration | example | gradients in a checkpoint |
        |---|---|---|
        | `backward`, `step`, `zero_grad` | `update_params` | any from another optimizer's loss since `zero_grad` |
        | `zero_grad`, `backward`, `step` | many GANs, first-generation hooks | none |
        | `backward`, `step` | a loop that never clears the gradients | all |
        | `backward` | an unfinished accumulation round | all |
        | `backward`, a step that is left out | `AmpOptimWrapper` with frozen parameters | as in the first row |
        """
        state = self.optimizer.state_dict()
        if self._names:
            layout = optimizer_state.layout_of(self.optimizer, self._names)
            for index, (group, parameters) in enumerate(zip(state["param_groups"], layout.groups, strict=True)):
                group["param_names"] = list(parameters)
                if index >= self._initial_groups:
                    group["added_with_grad"] = [parameter.requires_grad for parameter in parameters.values()]
        gradients = [parameter.grad for parameter in self.parameters()]
        are_spent = self._clears_between_steps and not (self._called_backward or self._called_zero_grad)
        if not are_spent and any(gradient is not None for gradient in gradients):
            state["accumulated_gradients"] = gradients
            state["accumulative_counts"] = self._accumulative_counts
            if self._weights and (weights := self._weights.state()):
                state["accumulated_weight"] = weights
        if self._called_zero_grad:  # even if another optimizer's loss sets gradients only after the save
            state["called_zero_grad"] = True
        if self._accumulative_counts > 1:
            state["loss_counts"] = self._inner_count, self._losses_per_iteration, self._further_losses
        state["optimizer_type"] = type(self.optimizer).__name__
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads a state saved by footplate or another engine, even if its parameter groups are different.

        Discards accumulated gradients with a warning if they were saved with different `accumulative_counts`. Re-adds
        groups that were added with `add_param_group` during the saved run.

        Raises:
            CheckpointError: The state belongs to different parameters or a different optimizer class.
        """
        if any(isinstance(value, Mapping) and "param_groups" in value for value in state_dict.values()):
            raise CheckpointError("the checkpoint contains several optimizers, but the run has only one")
        name = type(self.optimizer).__name__
        saved_name = state_dict.get("optimizer_type", name)  # not in checkpoints from older versions or other engines
        if saved_name != name:
            raise CheckpointError(
                f"the checkpoint contains the state of the optimizer {saved_name}, but the run uses {name}",
                notes=[
                    f"Set the optimizer to {saved_name}, or use load_from without resume to start over with {name}."
                ],
            )
        self._add_groups_of(state_dict)
        layout = optimizer_state.layout_of(self.optimizer, self._names)
        self.optimizer.load_state_dict(optimizer_state.regroup(state_dict, self.optimizer, layout))
        names = chain.from_iterable(optimizer_state.saved_names(state_dict["param_groups"], layout))
        by_name = dict(zip(names, self._load_accumulation(state_dict), strict=False))
        self._clears_between_steps = False
        self._called_zero_grad = bool(state_dict.get("called_zero_grad"))
        for name, parameter in layout.parameters.items():
            gradient = by_name.get(name)
            if gradient is not None:
                gradient = distribute_like(gradient.to(parameter.device, parameter.dtype), parameter)
            parameter.grad = gradient
        self._weights = None
        if self.has_loaded_gradients and "accumulated_weight" in state_dict:
            self._weights = WeightedRound()
            self._weights.restore(state_dict["accumulated_weight"], self.parameters()[0].device)

    def _add_groups_of(self, state_dict: Mapping[str, Any]) -> None:
        """Adds the groups that were added during the saved run, unless the optimizer already has them."""
        present = optimizer_state.layout_of(self.optimizer, self._names).parameters
        for group in state_dict["param_groups"]:
            if not group.get("added_with_grad") or not present.keys().isdisjoint(group["param_names"]):
                continue
            names = group["param_names"]
            if unknown := [name for name in names if name not in self._named]:
                raise CheckpointError(
                    f"the model has no parameter '{unknown[0]}', which is in a parameter group added in the saved run",
                    notes=["Add the parameter to the model, and the group to the optimizer, before the run starts."],
                )
            for name, requires_grad in zip(names, group["added_with_grad"], strict=True):
                self._named[name].requires_grad_(requires_grad)
            self.optimizer.add_param_group({"params": [self._named[name] for name in names]})
