from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from footplate.hooks import SyncBuffersHook, sync_buffers


@pytest.mark.parametrize(("distributed", "mean"), [(True, 2.0), (False, 1.0)])
def test_buffers_become_the_mean_of_all_ranks(monkeypatch: pytest.MonkeyPatch, distributed: bool, mean: float) -> None:
    model = nn.BatchNorm1d(1)
    assert model.running_mean is not None
    assert model.num_batches_tracked is not None
    model.running_mean.fill_(1.0)
    model.num_batches_tracked.fill_(4)

    def all_reduce(tensor: torch.Tensor) -> None:
        tensor.add_(3.0)  # adds the value of the other rank

    monkeypatch.setattr(sync_buffers, "is_distributed", lambda: True)
    monkeypatch.setattr(sync_buffers, "get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    runner: Any = SimpleNamespace(model=model)
    SyncBuffersHook(distributed=distributed).after_train_epoch(runner)
    assert model.running_mean.item() == mean
    assert model.num_batches_tracked.item() == 4


def test_one_process_alone_has_nothing_to_exchange() -> None:
    model = nn.BatchNorm1d(1)
    runner: Any = SimpleNamespace(model=model)
    SyncBuffersHook().after_train_epoch(runner)
    assert model.running_var is not None
    assert model.running_var.item() == 1.0
