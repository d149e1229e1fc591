"""The objects whose states a checkpoint contains next to model and optimizer, and a record of these states."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from footplate.checkpoint.serializable import to_serializable
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor
from footplate.engine.control.module_state import record_forward_state
from footplate.engine.values.hook import Hook
from footplate.errors import ArgumentError, CheckpointError
from footplate.records import average_over_ranks

if TYPE_CHECKING:
    from footplate.engine.run.runner import Runner


def participants_of(runner: "Runner") -> dict[str, Any]:
    """Returns the additional objects to save, such as hooks, keyed by their key path in a checkpoint.

    Hook paths are the same for all runs of a config.
    """
    hooks: dict[str, Hook] = {}
    for hook in runner.hooks:
        name = f"run.hooks.{type(hook).__name__}"
        count = sum(key.partition("#")[0] == name for key in hooks)
        hooks[f"{name}#{count + 1}" if count else name] = hook
    return {
        "message_hub": runner.message_hub,
        "run.writers": runner.visualizer,
        "run.history": runner.history,
        **hooks,
        **runner.participants,
    }


def checked_state(owner: Any) -> Mapping[str, Any]:
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


def _weight_norms(runner: "Runner") -> list[float]:
    """Returns the norms of this rank's weights and of the averaged ones, ascending: swapping them does not matter."""
    average = getattr(runner.hooks.swapping, "average", None)
    norms = []
    for model in (unwrap_model(runner.model), average):
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
    """

    def __init__(self, runner: "Runner") -> None:
        self._runner = runner
        self._norms = _weight_norms(runner)
        average_over_ranks(runner.message_hub.log_scalars)  # as before a save
        self._states = {path: _copied(checked_state(owner)) for path, owner in participants_of(runner).items()}
        # Hooks may hold models: averages, whose buffers a validation of the averaged weights changes, or teachers.
        held = [part for hook in runner.hooks for part in vars(hook).values() if isinstance(part, nn.Module)]
        modules = dict.fromkeys([unwrap_model(runner.model), *map(unwrap_model, held)])
        self._restore = [record_forward_state(module, gradients=False) for module in modules]

    def has_same_weights(self) -> bool:
        """Checks that no hook but a `SwappingHook` has changed this rank's weights since this state was recorded."""
        return self._norms == _weight_norms(self._runner)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restores the recorded state. Checkpoints that are saved in the block contain it as it was recorded.

        Participants get their states back at the end, so that a save does not depend on their `load_state_dict`.
        """
        for restore in self._restore:
            restore()
        runner = self._runner
        runner.recorded_states = self._states
        try:
            yield
        finally:
            runner.recorded_states = None
            for path, participant in participants_of(runner).items():
                state = _copied(self._states.get(path, {}))  # of a hook that was added in the meantime
                if state and path != "run.writers":  # which restore their state only before they write anything
                    participant.load_state_dict(state)


def _copied(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copies a state, unless it contains types that no checkpoint can contain."""
    try:
        return copy.deepcopy(to_serializable(state))
    except CheckpointError:
        return state
