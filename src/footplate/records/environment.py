"""What a run runs on."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from typing import Any

import torch

try:
    import resource
except ImportError:  # not on every system
    resource = None  # type: ignore[assignment]

_PATIENCE = 5  # seconds: git may have to look at many files
_PACKAGES = ("footplate", "torch", "numpy", "Pillow", "rich", "fsspec")


def memory_in_use(device: torch.device) -> int:
    """Returns the most memory used so far, in MiB: the accelerator's, or of this process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak >> (20 if sys.platform == "darwin" else 10))


def describe_environment() -> dict[str, Any]:
    """Returns what a bug report needs.

    Returns:
        Words by name, for a log: interpreter, processors, accelerator, the packages that decide a run, the git tree.
        Behind them `command`, all `packages` with their versions, and `git tree`, see `git_tree`.
    """
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processors": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "accelerator": _accelerator(),
    }
    installed = installed_packages()
    facts.update({package: installed[package.lower()] for package in _PACKAGES if package.lower() in installed})
    tree = git_tree()
    if tree is not None:
        changed = f", {len(tree['changed'])} files changed since" if tree["changed"] else ""
        facts["git"] = f"{tree['commit'][:12]} on {tree['branch']}{changed}"
    return {**facts, "command": sys.argv, "packages": installed, "git tree": tree}


def installed_packages() -> dict[str, str]:
    """Returns the version of every installed package by its name in lower case."""
    found = ((each.metadata["Name"], each.version) for each in importlib.metadata.distributions())
    return {name.lower(): version for name, version in sorted(found, key=lambda pair: pair[0] or "") if name}


def git_tree(folder: str | None = None) -> dict[str, Any] | None:
    """Returns the state of the git tree around a folder, the current one by default.

    Returns:
        `commit`, `branch` and `changed`, the tracked files that differ from the commit; None where there is no tree.
    """
    commit, branch = _git(folder, "rev-parse", "HEAD"), _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or branch is None or changed is None:
        return None
    return {"commit": commit, "branch": branch, "changed": [line[3:] for line in changed.splitlines()]}


def _accelerator() -> str:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{', '.join(names)} (CUDA {torch.version.cuda})"
    return "Apple MPS" if torch.backends.mps.is_available() else "none"


def _git(folder: str | None, *arguments: str) -> str | None:
    command = ["git", "-c", "core.fsmonitor=false", *arguments]  # a program that a tree's own settings may name
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")
