"""The parts of a run whose states a checkpoint contains, and a record of what a validation may change in them."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from footplate.checkpoint.serializable import to_serializable
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor
from footplate.engine.control.hook_list import HookList
from footplate.engine.control.module_state import ModuleAttributes, record_forward_state
from footplate.engine.control.run_history import History
from footplate.engine.values.hook import Hook, SavingHook
from footplate.errors import ArgumentError, CheckpointError
from footplate.records import MessageHub, average_over_ranks


class Stateful(Protocol):
    """An object that a checkpoint contains."""

    def state_dict(self) -> Any:
        """Returns the state, a dict."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restores the state that `state_dict` returned."""


class TrainingData(Stateful, Protocol):
    """A training loop, as far as saving it needs to know it: its state is the position of the run."""

    dataloader: Any
    iter: int


@dataclass(frozen=True)
class Parts:
    """The parts of a run. Users may replace most of them, so each save makes a new value.

    Attributes:
        model: The model, with its wrappers.
        optim_wrapper: The optimizer wrapper.
        param_schedulers: The schedules: a list, or a dict of lists if there are several optimizers.
        loop: The training loop.
        hooks: The hooks.
        message_hub: The message hub.
        history: The history of the run.
        module_attributes: The attributes of the model's modules that training changes.
        random_state: The random state that training continues with.
        others: All other objects to save, keyed by their key path in a checkpoint.
        recorded: The states to save instead of the current ones of the participants, by key path, if the run is saved
            because a validation run was left.
    """

    model: nn.Module
    optim_wrapper: Any
    param_schedulers: Any
    loop: TrainingData
    hooks: HookList
    message_hub: MessageHub
    history: History
    module_attributes: ModuleAttributes
    random_state: Stateful
    others: Mapping[str, Stateful]
    recorded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def participants(self) -> dict[str, Stateful]:
        """The objects to save next to model, optimizer, schedules and loop, keyed by their key path in a checkpoint.

        Hook paths are the same for all runs of a config.
        """
        hooks: dict[str, Stateful] = {}
        for hook in self.hooks:
            name = f"run.hooks.{type(hook).__name__}"
            count = sum(key.partition("#")[0] == name for key in hooks)
            hooks[f"{name}#{count + 1}" if count else name] = hook
        return {
            "message_hub": self.message_hub,
            "run.history": self.history,
            **hooks,
            "run.module_attributes": self.module_attributes,
            **self.others,
        }

    @property
    def average(self) -> nn.Module | None:
        """The averaged model of a hook that swaps weights, if there is one."""
        return getattr(self.hooks.swapping, "average", None)


def checked_state(owner: Stateful) -> Mapping[str, Any]:
    """Returns the state of a hook or model after checking that it is a dict.

    A hook may return None if it has no state.

    Raises:
        ArgumentError: The state is not a dict.
    """
    state = owner.state_dict()
    if state is None and isinstance(owner, Hook):
        return {}
    if not isinstance(state, Mapping):
        raise ArgumentError(f"{type(owner).__name__}.state_dict must return a dict", found=state)
    return state


def _weight_norms(parts: Parts) -> list[float]:
    """Returns the norms of this rank's weights and of the averaged ones, ascending: swapping them does not matter."""
    norms = []
    for model in (unwrap_model(parts.model), parts.average):
        weights = [] if model is None else [local_tensor(weight).detach() for weight in model.parameters()]
        by_weight = [_norm(weight) for weight in weights if weight.is_floating_point() or weight.is_complex()]
        norms.append(float(torch.stack(by_weight).sum()) if by_weight else 0.0)
    return sorted(norms)


def _norm(weight: Tensor) -> Tensor:
    """Returns the norm of a weight as a float64 scalar on the CPU, computed in at least single precision."""
    if weight.itemsize < 4:  # half precision, whose sums may overflow, and float8, of which torch computes no norms
        weight = weight.float()
    norm: Tensor = torch.linalg.vector_norm(weight)
    return norm.cpu().double()


class RecordedState:
    """What a validation may change, recorded before it: the states of hooks and records, and buffers.

    Does not copy parameters and the optimizer, which a validation does not change. All ranks must create it.

    Args:
        parts: The parts of the run.

    Attributes:
        states: The states of the participants, by key path.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._norms = _weight_norms(parts)
        average_over_ranks(parts.message_hub.log_scalars)  # as before a save
        # A validation that can be left has no best checkpoint yet, but the previous save may end while it runs.
        recorded = {path: owner for path, owner in parts.participants.items() if not isinstance(owner, SavingHook)}
        self.states = {path: _copied(checked_state(owner)) for path, owner in recorded.items()}
        # Hooks may hold models: averages, whose buffers a validation of the averaged weights changes, or teachers.
        held = [part for hook in parts.hooks for part in vars(hook).values() if isinstance(part, nn.Module)]
        modules = dict.fromkeys([unwrap_model(parts.model), *map(unwrap_model, held)])
        self._restore = [record_forward_state(module, gradients=False) for module in modules]

    def has_same_weights(self) -> bool:
        """Checks that no hook but a `SwappingHook` has changed this rank's weights since this state was recorded."""
        return self._norms == _weight_norms(self._parts)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restores the recorded state. Save `states` in the block instead of those of the participants.

        Participants get their states back at the end, so that a save does not depend on their `load_state_dict`.
        """
        for restore in self._restore:
            restore()
        try:
            yield
        finally:
            for path, participant in self._parts.participants.items():
                state = _copied(self.states.get(path, {}))  # of a hook that was added in the meantime
                if state and path != "run.writers":  # which restore their state only before they write anything
                    participant.load_state_dict(state)


def _copied(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copies a state, unless it contains types that no checkpoint can contain."""
    try:
        return copy.deepcopy(to_serializable(state))
    except CheckpointError:
        return state
