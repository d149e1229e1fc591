import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Runner
from footplate.engine.control.process_setup import (
    check_environment,
    prepare,
    seed_everything,
)
from footplate.errors import ArgumentError
from tests.support import Points, settings


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_seed_everything_seeds_every_generator() -> None:
    assert seed_everything({"seed": 5}) == 5
    first = draws()
    seed_everything({"seed": 6})
    assert draws() != first
    seed_everything({"seed": 5})
    assert draws() == first


def test_without_a_seed_the_one_of_the_script_is_used_or_one_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (7, 2**40 + 7):
        torch.manual_seed(seed)
        assert [seed_everything({}) for _ in range(2)] == [7, 7]
    monkeypatch.setattr("footplate.engine.control.script_seed._script_seed", None)
    seeds = {seed_everything({}) for _ in range(4)} | {seed_everything({"seed": None})}
    assert len(seeds) == 5
    assert all(0 <= seed < 1 << 31 for seed in seeds)


def test_diff_rank_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_everything({"seed": 8})
    eight = draws()
    monkeypatch.setattr("footplate.engine.control.process_setup.get_rank", lambda: 3)
    assert seed_everything({"seed": 5, "diff_rank_seed": True}) == 5
    assert draws() == eight
    seed_everything({"seed": 8, "diff_rank_seed": False})
    assert draws() == eight


def test_deterministic_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seed_everything({"seed": 1, "deterministic": True})
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"
    seed_everything({"seed": 1, "deterministic": "warn"})
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    with pytest.raises(ArgumentError, match="deterministic"):
        seed_everything({"seed": 1, "deterministic": "yes"})
    seed_everything({"seed": 1})  # the next run in the process
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # by the user
    seed_everything({"seed": 1})
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("seed", [-1, "7"])
def test_invalid_seed_raises(seed: Any) -> None:
    with pytest.raises(ArgumentError, match="the seed must be an integer") as caught:
        seed_everything({"seed": seed})
    assert (caught.value.key, caught.value.found) == ("randomness.seed", seed)


def test_prepare_applies_env_cfg(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda method, force: calls.append((method, force)))
    monkeypatch.setattr("footplate.engine.control.process_setup.initialize", lambda *given: calls.append(given))
    workers = {"mp_start_method": "fork", "opencv_num_threads": 0}
    prepare({"cudnn_benchmark": True, "mp_cfg": workers, "dist_cfg": {"backend": "nccl"}}, launcher="none")
    assert torch.backends.cudnn.benchmark
    assert calls == [("none", {"backend": "nccl"}), ("fork", True)]
    with pytest.raises(ArgumentError, match="mp_start_method must be one of"):
        check_environment({"mp_cfg": {"mp_start_method": "spoon"}})


def test_unused_launcher_causes_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name, value in (("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2"), ("SLURM_STEP_NUM_TASKS", "1"), ("PMI_RANK", "0")):
        monkeypatch.setenv(name, value)
    prepare({}, launcher="none")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")  # as in a job script without srun
    prepare({}, launcher="none")
    assert caplog.messages == []
    for name in ("SLURM_STEP_NUM_TASKS", "PMI_SIZE"):  # as with `srun --mpi=pmi2`
        monkeypatch.setenv(name, "2")
    prepare({}, launcher="none")
    assert "(--launcher slurm)" in caplog.text


def test_cudnn_benchmark_ends_with_the_run_that_set_it() -> None:
    prepare({"cudnn_benchmark": True}, launcher="none")
    prepare({}, launcher="none")  # the next run in the process
    assert not torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # by the user
    prepare({}, launcher="none")
    assert torch.backends.cudnn.benchmark


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before


def test_settings_that_break_determinism_log_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Batches:
        def __iter__(self) -> Iterator[Any]:
            return iter(torch.utils.data.DataLoader(Points(8), batch_size=4))

    randomness, data = {"seed": 3, "deterministic": True}, Batches()
    runner = Runner(
        **settings(
            tmp_path,
            randomness=randomness,
            env_cfg={"cudnn_benchmark": True},
            train_dataloader=data,
            train_cfg={"max_iters": 2},
        )
    )
    runner.train()
    assert any("the batches of train_dataloader" in each for each in caplog.messages)
    assert not torch.backends.cudnn.benchmark
