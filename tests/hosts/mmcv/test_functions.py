import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from footplate.errors import ConfigError
from footplate.first_generation.adapters import DataContainer
from footplate.hosts.mmcv import functions


def test_jit_returns_the_function() -> None:
    def function() -> int:
        return 3

    assert functions.jit(function) is function
    assert functions.jit(derivate=True, coderize=True)(function) is function
    assert functions.skip_no_elena(function) is function
    assert functions.is_jit_tracing() is False


def test_host_and_time() -> None:
    assert re.fullmatch(r".+@.+", functions.get_host_info())
    assert re.fullmatch(r"\d{8}_\d{6}", functions.get_time_str())


def test_loggers_are_recorded() -> None:
    logger = functions.get_logger("mmcls")
    assert logger.name in functions.logger_initialized


def test_set_random_seed() -> None:
    functions.set_random_seed(5)
    first = torch.rand(1), np.random.rand()
    functions.set_random_seed(5, use_rank_shift=True)
    assert (torch.rand(1), np.random.rand()) == first


def test_allreduce_of_one_process_keeps_the_values() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    functions.allreduce_grads([weight, nn.Parameter(torch.ones(1))])
    functions.allreduce_params([weight])
    assert weight.tolist() == [1, 1]
    assert weight.grad.tolist() == [3, 3]


def test_cast_tensor_type() -> None:
    data = {"a": torch.ones(1), "b": [torch.ones(1, dtype=torch.int64), "text"]}
    found = functions.cast_tensor_type(data, torch.float32, torch.float16)
    assert found["a"].dtype is torch.float16
    assert found["b"][0].dtype is torch.int64


def test_scatter_kwargs_unpacks_containers() -> None:
    inputs, kwargs = functions.scatter_kwargs([DataContainer([1])], {"meta": DataContainer([2])}, [-1])
    assert inputs == ((1,),)
    assert kwargs == ({"meta": 2},)


def test_streams_and_devices() -> None:
    assert functions._get_stream(-1) is None
    assert functions._get_dataloader() == (DataLoader, DataLoader)
    assert "PyTorch" in functions.get_build_config()


def test_iter_loader_counts_passes() -> None:
    loader = functions.IterLoader(DataLoader([0, 1], batch_size=1))  # type: ignore[arg-type]
    assert [int(next(loader)) for _ in range(5)] == [0, 1, 0, 1, 0]
    assert (loader.epoch, len(loader)) == (2, 2)


def test_loss_scaler_grows_after_a_window_and_shrinks_after_an_overflow() -> None:
    scaler = functions.LossScaler(init_scale=8, scale_window=2)
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.tensor([float("inf")])
    scaler.update_scale(scaler.has_overflow([weight]))
    assert scaler.loss_scale == 4
    for _ in range(2):
        scaler.update_scale(False)
    assert scaler.loss_scale == 8
    again = functions.LossScaler()
    again.load_state_dict(scaler.state_dict())
    assert again.loss_scale == 8
    assert functions.LossScaler(mode="static").has_overflow([weight]) is False
    with pytest.raises(AssertionError, match="'dynamic' or 'static'"):
        functions.LossScaler(mode="other")


class _Doubling(nn.Module):
    def forward(self, inputs: Any, return_loss: bool = True) -> list[Any]:
        assert not return_loss
        return [2 * int(each) for each in inputs]


@pytest.mark.parametrize("test", [functions.single_gpu_test, functions.multi_gpu_test])
def test_test_loops_return_the_predictions(test: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data: Any = [{"inputs": index} for index in range(3)]
    model = _Doubling()
    assert test(model, DataLoader(data, batch_size=2)) == [0, 2, 4]
    assert not model.training
    assert "3/3" in capsys.readouterr().out


def test_ipus_are_refused() -> None:
    with pytest.raises(ConfigError, match="'IPUDataLoader' needs an IPU"):
        functions.IPUDataLoader(SimpleNamespace())
