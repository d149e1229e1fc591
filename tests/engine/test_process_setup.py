import multiprocessing
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from footplate.engine.process_setup import pick_device, prepare, seed_everything
from footplate.errors import ArgumentError


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_a_seed_seeds_every_generator() -> None:
    assert seed_everything({"seed": 5}) == 5
    first = draws()
    seed_everything({"seed": 6})
    assert draws() != first
    seed_everything({"seed": 5})
    assert draws() == first


def test_without_a_seed_one_is_drawn() -> None:
    seeds = {seed_everything({}) for _ in range(4)} | {seed_everything({"seed": None})}
    assert len(seeds) == 5
    assert all(0 <= seed < 1 << 31 for seed in seeds)


def test_ranks_may_have_their_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_everything({"seed": 8})
    eight = draws()
    monkeypatch.setattr("footplate.engine.process_setup.get_rank", lambda: 3)
    assert seed_everything({"seed": 5, "diff_rank_seed": True}) == 5
    assert draws() == eight
    seed_everything({"seed": 8, "diff_rank_seed": False})
    assert draws() == eight


def test_deterministic_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seed_everything({"seed": 1, "deterministic": True})
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"


@pytest.mark.parametrize("seed", [-1, 1 << 32, "7", 1.5, True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(ArgumentError, match="the seed must be a whole number") as caught:
        seed_everything({"seed": seed})
    assert (caught.value.key, caught.value.found) == ("randomness.seed", seed)


def test_unknown_keys_get_the_nearest_one() -> None:
    with pytest.raises(ArgumentError, match="randomness has no key 'sed'") as caught:
        seed_everything({"sed": 1})
    assert (caught.value.key, caught.value.suggestion) == ("randomness.sed", "seed")
    with pytest.raises(ArgumentError, match="env_cfg has no key 'cudnn_benchmrk'") as caught:
        prepare({"cudnn_benchmrk": True}, launcher="none")
    assert (caught.value.key, caught.value.suggestion) == ("env_cfg.cudnn_benchmrk", "cudnn_benchmark")


def test_the_environment_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda method, force: calls.append((method, force)))
    monkeypatch.setattr("footplate.engine.process_setup.initialize", lambda *given: calls.append(given))
    workers = {"mp_start_method": "fork", "opencv_num_threads": 0}
    prepare({"cudnn_benchmark": True, "mp_cfg": workers, "dist_cfg": {"backend": "nccl"}}, launcher="none")
    assert torch.backends.cudnn.benchmark
    assert calls == [("none", {"backend": "nccl"}), ("fork", True)]
    with pytest.raises(ArgumentError, match="unknown start method"):
        prepare({"mp_cfg": {"mp_start_method": "spoon"}}, launcher="none")


def test_the_device() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device().type == expected
