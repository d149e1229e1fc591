import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from footplate.distributed import get_rank
from footplate.distributed.sync_bn import PlainBatchNorm, synchronize_batch_norm
from footplate.errors import ArgumentError

INPUTS = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 5


def layers(kind: type[nn.Module] = nn.BatchNorm1d, **settings: Any) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv1d(3, 5, 2), kind(5, **settings), nn.Tanh()).double()


def trained(model: nn.Module, inputs: torch.Tensor) -> list[list[float]]:
    """Returns outputs, gradients and statistics after two training passes and one in eval mode."""
    inputs = inputs.clone().requires_grad_()
    for _ in range(2):
        output = model(inputs)
        (output**3).sum().backward()
    model.eval()
    kept = [output, inputs.grad, model(inputs), *model.buffers()]
    return [[float(value) for value in each.detach().flatten()] for each in kept if each is not None]


def share(settings: dict[str, Any]) -> list[list[float]]:
    rows = slice(0, 5) if get_rank() == 0 else slice(5, 8)  # batches of different sizes
    return trained(synchronize_batch_norm(layers(**settings), "torch"), INPUTS[rows])


@pytest.mark.parametrize("settings", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_sync_bn_on_two_ranks_equals_one_process(on_ranks: Callable[..., list[Any]], settings: dict[str, Any]) -> None:
    alone = trained(layers(**settings), INPUTS)
    first, second = on_ranks(2, share, settings)
    tracked = settings.get("track_running_stats", True)
    for place, expected in enumerate(alone):
        if place == 2 and not tracked:
            continue  # without statistics, each rank uses its own batch
        found = first[place] + second[place] if place < 3 else first[place]
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_sync_bn_on_one_process_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    model = synchronize_batch_norm(layers(nn.SyncBatchNorm))
    assert [type(each) for each in model.modules()][2] is PlainBatchNorm
    assert caplog.messages == ["SyncBN on one process acts as plain batch normalization: 1 layers"]
    assert trained(model, INPUTS) == trained(layers(), INPUTS)
    assert list(model.state_dict()) == list(layers().state_dict())


def test_plain_layers_are_not_converted_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    assert type(dict(synchronize_batch_norm(layers()).named_modules())["1"]) is nn.BatchNorm1d
    assert caplog.messages == []
    synchronize_batch_norm(layers(), "torch")
    assert caplog.messages == ["SyncBN on one process acts as plain batch normalization: nothing to synchronize"]


def test_unknown_sync_bn_kind_raises() -> None:
    with pytest.raises(ArgumentError) as caught:
        synchronize_batch_norm(layers(), "toch")
    assert (caught.value.key, caught.value.suggestion) == ("sync_bn", "torch")


def test_input_without_channels_raises() -> None:
    with pytest.raises(ArgumentError, match="inputs"):
        PlainBatchNorm(3)(torch.zeros(3))
