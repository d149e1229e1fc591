import os
import stat
from pathlib import Path

import pytest

from footplate.cli import launching
from footplate.distributed.launchers import LAUNCHERS, RankInfo, find_rank_info, first_host, rank_from_environment
from footplate.errors import ArgumentError

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
        if name.startswith(("SLURM_", "OMPI_", "PMI", "MPI_", "MASTER_")) or name in (
            "RANK",
            "WORLD_SIZE",
            "LOCAL_RANK",
        ):
            monkeypatch.delenv(name)


def _set(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("launcher", "env", "port", "seat"),
    [
        ("pytorch", _TORCHRUN, None, RankInfo(2, 4, 0, "here", 29400)),
        ("pytorch", {"RANK": "0", "WORLD_SIZE": "1"}, 3000, RankInfo(0, 1, 0, "127.0.0.1", 3000)),
        ("slurm", _SLURM, None, RankInfo(5, 8, 1, "gpu07", 19711)),
        ("slurm", {**_SLURM, "SLURM_STEP_ID": "1"}, None, RankInfo(5, 8, 1, "gpu07", 19808)),
        ("slurm", _SLURM, 29501, RankInfo(5, 8, 1, "gpu07", 29501)),
        ("slurm", {**_SLURM, "MASTER_ADDR": "a", "MASTER_PORT": "7"}, 29501, RankInfo(5, 8, 1, "a", 7)),
        ("mpi", _OPEN_MPI, None, RankInfo(3, 4, 3, "127.0.0.1", 29500)),
        (
            "mpi",
            {**_OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "b"},
            1234,
            RankInfo(3, 4, 3, "b", 1234),
        ),
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


def test_export_sets_torchrun_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, dict.fromkeys(_TORCHRUN, "?"))
    RankInfo(2, 4, 0, "here", 29400).export()
    assert {name: os.environ[name] for name in _TORCHRUN} == _TORCHRUN


@pytest.mark.parametrize(
    ("launcher", "env", "text"),
    [
        ("pytorch", {}, "launcher 'pytorch' needs torchrun to start the processes"),
        ("slurm", {}, "launcher 'slurm' needs srun"),
        ("slurm", {"SLURM_PROCID": "0"}, "launcher 'slurm' did not set SLURM_STEP_NUM_TASKS"),
        ("mpi", {}, "launcher 'mpi' needs mpirun or mpiexec"),
        ("mpi", {"PMI_RANK": "0", "PMI_SIZE": "2"}, "launcher 'mpi' does not provide the address of rank 0"),
        ("pytorch", {**_TORCHRUN, "WORLD_SIZE": "four"}, "launcher 'pytorch' needs a number in WORLD_SIZE"),
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
        ("node-[2]-ib,x", "node-2-ib"),
    ],
)
def test_first_host(nodes: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert first_host(nodes) == first


def test_first_host_from_scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match="cannot find the first machine"):
        first_host("r[1-2]n[3-4]")
    tool = tmp_path / "scontrol"
    tool.write_text("#!/bin/sh\necho r1n3\necho r1n4\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    assert first_host("r[1-2]n[3-4]") == "r1n3"


def test_command_line_offers_all_launchers() -> None:
    assert launching._LAUNCHERS == LAUNCHERS
