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

    The branch is "HEAD" if none is checked out. Returns None if there is no repository or commit, or if git fails or
    takes too long.
    """
    try:
        commit, branch = _git("rev-parse", "HEAD", "--abbrev-ref", "HEAD")
        return {
            "commit": commit,
            "branch": branch,
            "changed": _git("diff", "--no-relative", "--name-only", "HEAD", "--"),
        }
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: a branch is named HEAD
        return None


def _git(*arguments: str) -> list[str]:
    # Disable core.fsmonitor: a repository's config could set it to any program, which git would run.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    return subprocess.check_output(
        command, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace", timeout=_GIT_TIMEOUT
    ).splitlines()
