"""Measures the memory that weights, gradients, optimizer state, activations and averaged weights need."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor
from footplate.engine import Runner
from footplate.hooks import EMAHook


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Returns the total size of tensors in bytes. A sharded tensor counts with its local shard only."""
    return sum(each.numel() * each.element_size() for each in map(local_tensor, tensors))


@contextmanager
def counting_activations(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Measures the tensors that the block saves for the backward pass.

    A module with activation checkpointing saves its inputs. Weights and buffers are not counted, except for the
    gathered weights of a sharded model.

    Yields:
        A function that returns the total size in bytes so far.
    """
    state = map(local_tensor, chain(model.parameters(), model.buffers()))
    known = {each.untyped_storage().data_ptr() for each in state}
    kept: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        memory = local_tensor(tensor).untyped_storage()
        if memory.data_ptr() not in known:
            kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    def record_inputs(module: nn.Module, args: Any, kwargs: Any) -> None:
        for each in tree_leaves((args, kwargs)) if torch.is_grad_enabled() else ():
            if isinstance(each, Tensor):
                record(each)

    checkpointed = [each for each in model.modules() if hasattr(each, "checkpointed_name")]
    hooks = [each.register_forward_pre_hook(record_inputs, with_kwargs=True) for each in checkpointed]
    try:
        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            yield lambda: sum(kept.values())
    finally:
        for hook in hooks:
            hook.remove()


def state_bytes(runner: Runner) -> dict[str, int]:
    """Returns the size of each part of a run's state in this process, in bytes.

    The optimizer has no state before its first step. The key "averages" exists only if the run has an EMAHook.
    """
    model = unwrap_model(runner.model)
    states = [state for part in runner.optim_wrapper.parts.values() for state in part.optimizer.state.values()]
    found = {
        "weights": bytes_of(chain(model.parameters(), model.buffers())),
        "gradients": bytes_of(each for each in model.parameters() if each.requires_grad),
        "optimizer": bytes_of(each for state in states for each in state.values() if isinstance(each, Tensor)),
    }
    averages = [each.ema_model for each in runner.hooks if isinstance(each, EMAHook) and each.ema_model is not None]
    if averages:
        found["averages"] = bytes_of(chain(*(chain(each.parameters(), each.buffers()) for each in averages)))
    return found
