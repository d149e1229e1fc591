"""Lists the launchers and the environment variables they set. Does not import torch, so that commands start quickly."""

import os
from typing import NamedTuple

Names = tuple[str, ...]


class LauncherVariables(NamedTuple):
    """The environment variables set by a launcher. If a field lists several, the first one that is set is used."""

    starters: str  # the programs that set the variables
    ranks: Names
    sizes: Names
    local_ranks: Names
    local_sizes: Names = ()  # the number of processes on the same machine
    nodes: Names = ()  # the list of machines


VARIABLES = {
    "pytorch": LauncherVariables("torchrun", ("RANK",), ("WORLD_SIZE",), ("LOCAL_RANK",)),
    "mpi": LauncherVariables(
        "mpirun or mpiexec",
        ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"),
        ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID", "SLURM_LOCALID"),
        local_sizes=("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"),
    ),
    "slurm": LauncherVariables(  # last, because a SLURM job also sets the variables if mpirun starts the processes
        "srun",
        ("SLURM_PROCID",),
        ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        ("SLURM_LOCALID",),
        nodes=("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST"),
    ),
}

LAUNCHERS = ("none", *VARIABLES)
RANK_VARIABLES = tuple(name for names in VARIABLES.values() for name in names.ranks)


def is_launched() -> bool:
    """Checks whether a launcher such as torchrun or srun started this process."""
    return any(name in os.environ for name in RANK_VARIABLES)
