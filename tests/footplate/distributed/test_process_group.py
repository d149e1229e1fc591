import os
import subprocess
import sys
import time

import pytest
import torch

from footplate.distributed import initialize, is_distributed, process_group
from footplate.distributed.process_group import (
    RankInfo,
    find_rank_info,
    first_host,
    rank_from_environment,
)
from footplate.errors import ArgumentError, RankError
from tests.support import free_port


def _set(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Returns the environment of rank 0 of 2, whose rank 1 never connects."""
    port = str(free_port())
    names = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    _set(monkeypatch, names)
    return names


def test_invalid_dist_cfg_raises() -> None:
    with pytest.raises(ArgumentError, match="unknown key 'bakend' in dist_cfg") as caught:
        initialize("none", {"bakend": "gloo"})
    assert (caught.value.key, caught.value.suggestion) == ("env_cfg.dist_cfg.bakend", "backend")


def test_missing_rank_raises_rank_error(first_of_two: dict[str, str]) -> None:
    with pytest.raises(
        RankError, match="rank 0 of 2 on .* could not initialize the process group at 127.0.0.1:"
    ) as caught:
        initialize("pytorch", {"timeout": 1})
    assert len(str(caught.value).splitlines()) <= 5
    assert not is_distributed()


@pytest.mark.parametrize(
    ("there", "wanted", "backend"),
    [
        (False, None, "gloo"),
        (False, "nccl", "gloo"),
        (True, None, "cpu:gloo,cuda:nccl"),
        (True, "nccl", "cpu:gloo,cuda:nccl"),
        (True, "gloo", "gloo"),
    ],
)
def test_backend_matches_devices(
    monkeypatch: pytest.MonkeyPatch, there: bool, wanted: str | None, backend: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    seat = RankInfo(0, 1, 0, "here", 29500)
    assert process_group._choose_device(seat, wanted, "pytorch") == (backend, 0 if there else None)


@pytest.mark.parametrize(
    ("local_rank", "devices", "launcher", "backend", "device"),
    [
        (1, 4, "pytorch", "cuda:nccl", 1),
        (3, 1, "slurm", "cuda:nccl", 0),  # srun shows each process only its own device
        (3, 2, "slurm", "cuda:nccl", None),
        (2, 2, "pytorch", "gloo", 0),
    ],
)
def test_device_of_each_rank(
    monkeypatch: pytest.MonkeyPatch, local_rank: int, devices: int, launcher: str, backend: str, device: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    seat = RankInfo(5, 8, local_rank, "here", 29500)
    if device is not None:
        assert process_group._choose_device(seat, backend, launcher) == (backend, device)
        return
    with pytest.raises(ArgumentError, match="rank 5 on .* has no device of its own") as caught:
        process_group._choose_device(seat, backend, launcher)
    assert f"local rank {local_rank}, but the number of visible devices is {devices}." in str(caught.value)


_SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
}
_OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
_TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "29400"}


@pytest.fixture(autouse=True)
def _not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "PMI", "MPI_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_RANK")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("launcher", "env", "port", "seat"),
    [
        ("pytorch", _TORCHRUN, None, RankInfo(2, 4, 0, "here", 29400)),
        ("pytorch", {"RANK": "0", "WORLD_SIZE": "1"}, 3000, RankInfo(0, 1, 0, "127.0.0.1", 3000)),
        ("slurm", _SLURM, None, RankInfo(5, 8, 1, "gpu07", 19711)),
        ("slurm", {**_SLURM, "MASTER_ADDR": "a", "MASTER_PORT": "7"}, 29501, RankInfo(5, 8, 1, "a", 7)),
        ("mpi", _OPEN_MPI, None, RankInfo(3, 4, 3, "127.0.0.1", 29500)),
        (
            "mpi",
            {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MASTER_ADDR": "c"},
            9,
            RankInfo(1, 2, 0, "c", 9),
        ),
        (
            "mpi",
            {"PMIX_RANK": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "MASTER_ADDR": "d"},
            9,
            RankInfo(1, 2, 0, "d", 9),
        ),
    ],
)
def test_rank_info_from_launcher_environment(
    monkeypatch: pytest.MonkeyPatch, launcher: str, env: dict[str, str], port: int | None, seat: RankInfo
) -> None:
    _set(monkeypatch, env)
    assert find_rank_info(launcher, port) == seat
    assert rank_from_environment() == seat.rank


@pytest.mark.parametrize(
    ("launcher", "env", "text"),
    [
        ("pytorch", {}, "launcher 'pytorch' needs torchrun to start the processes"),
        ("slurm", {"SLURM_PROCID": "0"}, "Not set in the environment: SLURM_STEP_NUM_TASKS, SLURM_NTASKS"),
        ("mpi", {"PMI_RANK": "0", "PMI_SIZE": "2"}, "launcher 'mpi' does not provide the address of rank 0"),
    ],
)
def test_missing_launcher_variable_raises(
    monkeypatch: pytest.MonkeyPatch, launcher: str, env: dict[str, str], text: str
) -> None:
    _set(monkeypatch, env)
    with pytest.raises(ArgumentError, match=text):
        find_rank_info(launcher)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("login", "login"),
        ("a,b,c", "a"),
        ("gpu[007-009,12],login", "gpu007"),
        ("r1n[3,5].cluster", "r1n3.cluster"),
        ("r[1-2]n[3-4]", "r1n3"),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_threads_have_the_gil_before_the_exit(first_of_two: dict[str, str]) -> None:
    """A thread of Gloo that releases a tensor during the exit would abort the process."""
    script = (
        "import threading, time\nfrom footplate.distributed import initialize\ninitialize()\n"
        "release = lambda: (time.sleep(0.03), print('released', flush=True))\n"
        "threading.Thread(target=release, daemon=True).start()\n"
    )
    environment = {**os.environ, **first_of_two, "WORLD_SIZE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "released" in done.stdout


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="forks safely")
@pytest.mark.parametrize("several", [False, True])
def test_a_fork_waits_for_threads_that_release_tensors(monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    waits: list[float] = []
    monkeypatch.setattr(process_group, "is_distributed", lambda: several)
    monkeypatch.setattr(time, "sleep", waits.append)
    if not os.fork():
        os._exit(0)
    os.wait()
    assert waits == [0.002] * several
