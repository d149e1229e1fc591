"""Describes the environment of a run."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from typing import Any

import torch

from footplate.extensions import known_packages
from footplate.messages import pluralize

try:
    import resource
except ImportError:  # not available on Windows
    resource = None  # type: ignore[assignment]

_GIT_TIMEOUT = 5  # seconds, enough to check many files
_NO_COMMIT = "(initial)"
_FIELDS_BEFORE_PATH = {"1": 8, "2": 9, "u": 10}  # in git's output for changed, renamed and conflicting files
_PACKAGES = ("footplate", "torch", "numpy", "Pillow", "rich", "fsspec")
_OF_CODE_BASES = ("mmcv", "mmcv-lite", "opencv-python", "opencv-python-headless")


def memory_in_use(device: torch.device) -> int:
    """Returns the peak memory use in MiB: device memory on CUDA, process memory on other devices (0 on Windows)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak >> (20 if sys.platform == "darwin" else 10))


def describe_environment() -> dict[str, Any]:
    """Collects the environment information that a bug report needs.

    Returns:
        A dict. The first entries are strings for the log: interpreter, processors, accelerator, main packages and git
        commit. They are followed by `command` and `packages` (all packages with their versions). `git tree` is a dict
        with the `commit`, the `branch` and the `changed` tracked files, or None if there is no repository or commit.
    """
    accelerator = "Apple MPS" if torch.backends.mps.is_available() else "none"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        accelerator = f"{', '.join(names)} (CUDA {torch.version.cuda})"
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processors": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "accelerator": accelerator,
    }
    installed = installed_packages()
    main = (*_PACKAGES, *known_packages().values(), *_OF_CODE_BASES)
    facts.update({package: installed[package.lower()] for package in main if package.lower() in installed})
    tree = _read_git()
    if tree is not None:
        changed = f", {pluralize(len(tree['changed']), 'file')} changed since" if tree["changed"] else ""
        facts["git"] = f"{tree['commit'][:12]} on {tree['branch']}{changed}"
    return {**facts, "command": sys.argv, "packages": installed, "git tree": tree}


def installed_packages() -> dict[str, str]:
    """Returns the versions of all installed packages, keyed by lowercase name."""
    packages = {}
    for package in importlib.metadata.distributions():
        # Read only the headers: parsing the full metadata of many packages takes half a second.
        header = (package.read_text("METADATA") or package.read_text("PKG-INFO") or "").partition("\n\n")[0]
        fields = dict(re.findall(r"^(Name|Version): *(.*\S) *$", header, re.MULTILINE))
        if len(fields) == 2:
            packages[fields["Name"].lower()] = fields["Version"]
    return dict(sorted(packages.items()))


def _read_git() -> dict[str, Any] | None:
    """Returns the commit, the branch and the changed files of the git repository that contains the current folder.

    Returns None if there is no repository or commit, or if git fails or takes too long.
    """
    # Disable core.fsmonitor: a repository's config could set it to any program, which git would run.
    git = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false"]
    command = [*git, "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        status = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_GIT_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = status.stdout.splitlines()
    head = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit = head.get("branch.oid", _NO_COMMIT)
    if status.returncode or commit == _NO_COMMIT:
        return None
    changed = [line for line in lines if line[:1] in _FIELDS_BEFORE_PATH]
    # For a renamed file, git prints the new path, a tab and the old path.
    paths = [line.split(" ", _FIELDS_BEFORE_PATH[line[0]])[-1].partition("\t")[0] for line in changed]
    return {"commit": commit, "branch": head.get("branch.head", ""), "changed": paths}
