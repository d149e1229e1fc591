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
    """Returns outputs, gradients of inputs and weights, and statistics, after two passes and one in eval mode."""
    inputs = inputs.clone().requires_grad_()
    for _ in range(2):
        output = model(inputs)
        (output**3).sum().backward()
    model.eval()
    kept = [output, inputs.grad, model(inputs), *model.buffers()]
    return [[float(value) for value in each.detach().flatten()] for each in kept if each is not None]


def share(settings: dict[str, Any]) -> list[list[float]]:
    rows = slice(0, 5) if get_rank() == 0 else slice(5, 8)  # of other sizes
    return trained(synchronize_batch_norm(layers(**settings), "torch"), INPUTS[rows])


@pytest.mark.parametrize("settings", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_two_processes_normalize_as_one(on_ranks: Callable[..., list[Any]], settings: dict[str, Any]) -> None:
    alone = trained(layers(**settings), INPUTS)
    first, second = on_ranks(2, share, settings)
    tracked = settings.get("track_running_stats", True)
    for place, expected in enumerate(alone):
        if place == 2 and not tracked:
            continue  # each rank's own batch, where there are no statistics
        found = first[place] + second[place] if place < 3 else first[place]
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_one_process_needs_none_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    model = synchronize_batch_norm(layers(nn.SyncBatchNorm))
    assert [type(each) for each in model.modules()][2] is PlainBatchNorm
    assert caplog.messages == ["SyncBN on one process acts as plain batch normalization: 1 layers"]
    assert trained(model, INPUTS) == trained(layers(), INPUTS)
    assert list(model.state_dict()) == list(layers().state_dict())


def test_without_a_word_plain_layers_stay_plain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    assert type(dict(synchronize_batch_norm(layers()).named_modules())["1"]) is nn.BatchNorm1d
    assert caplog.messages == []
    synchronize_batch_norm(layers(), "torch")
    assert caplog.messages == ["SyncBN on one process acts as plain batch normalization: nothing to synchronize"]


def test_another_kind_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        synchronize_batch_norm(layers(), "toch")
    assert (caught.value.key, caught.value.suggestion) == ("sync_bn", "torch")


def test_an_input_without_channels_is_refused() -> None:
    with pytest.raises(ArgumentError, match="inputs"):
        PlainBatchNorm(3)(torch.zeros(3))
