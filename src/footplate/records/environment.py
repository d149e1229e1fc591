"""Describes the environment of a run."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from typing import Any

import torch

try:
    import resource
except ImportError:  # not available on Windows
    resource = None  # type: ignore[assignment]

_PATIENCE = 5  # seconds; git may have to check many files
_NO_COMMIT = "(initial)"
_FIELDS_BEFORE_PATH = {"1": 8, "2": 9, "u": 10}  # changed, renamed, in conflict
_PACKAGES = ("footplate", "torch", "numpy", "Pillow", "rich", "fsspec")


def memory_in_use(device: torch.device) -> int:
    """Returns the peak memory use in MiB, of the CUDA device or otherwise of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak >> (20 if sys.platform == "darwin" else 10))


def describe_environment() -> dict[str, Any]:
    """Returns the facts about the environment that a bug report needs.

    Returns:
        Texts by name for a log: interpreter, processors, accelerator, main packages and git commit. They are followed
        by `command`, all `packages` with their versions, and `git tree`; see `git_tree`.
    """
    asked = _ask_git(None)  # git runs in the meantime
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processors": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "accelerator": _accelerator(),
    }
    installed = installed_packages()
    facts.update({package: installed[package.lower()] for package in _PACKAGES if package.lower() in installed})
    tree = _answer(asked)
    if tree is not None:
        changed = f", {len(tree['changed'])} files changed since" if tree["changed"] else ""
        facts["git"] = f"{tree['commit'][:12]} on {tree['branch']}{changed}"
    return {**facts, "command": sys.argv, "packages": installed, "git tree": tree}


def installed_packages() -> dict[str, str]:
    """Returns the version of every installed package by lower-case name."""
    # Reads only the headers: parsing the full metadata of many packages takes half a second.
    heads = (
        (each.read_text("METADATA") or each.read_text("PKG-INFO") or "").partition("\n\n")[0]
        for each in importlib.metadata.distributions()
    )
    found = [
        (name, version) for head in heads if (name := _entry(head, "Name")) and (version := _entry(head, "Version"))
    ]
    return {name.lower(): version for name, version in sorted(found)}


def git_tree(folder: str | None = None) -> dict[str, Any] | None:
    """Returns the state of the git repository that contains a folder, by default the current one.

    Returns:
        `commit`, `branch` and `changed`, which lists the tracked files that differ from the commit; None without a
        repository or commit.
    """
    return _answer(_ask_git(folder))


def _entry(head: str, key: str) -> str | None:
    found = re.search(rf"^{key}: *(.+)$", head, re.MULTILINE)
    return found[1].strip() if found else None


def _accelerator() -> str:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{', '.join(names)} (CUDA {torch.version.cuda})"
    return "Apple MPS" if torch.backends.mps.is_available() else "none"


def _ask_git(folder: str | None) -> "subprocess.Popen[str] | None":
    """Starts git to get the commit, the branch and the changed files."""
    # core.fsmonitor is disabled because a repository's config can set it to any program, which git would run.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch"]
    told: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "encoding": "utf-8"}
    try:
        return subprocess.Popen([*command, "--untracked-files=no"], cwd=folder, errors="replace", **told)
    except OSError:
        return None


def _answer(asked: "subprocess.Popen[str] | None") -> dict[str, Any] | None:
    if asked is None:
        return None
    with asked:
        try:
            lines = asked.communicate(timeout=_PATIENCE)[0].splitlines()
        except subprocess.TimeoutExpired:
            asked.kill()
            return None
    about = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit, branch = about.get("branch.oid", _NO_COMMIT), about.get("branch.head", "")
    if asked.returncode or commit == _NO_COMMIT:
        return None
    changed = [path for path in map(_path_in, lines) if path is not None]
    return {"commit": commit, "branch": branch, "changed": changed}


def _path_in(line: str) -> str | None:
    """Returns the path in a line of `git status --porcelain=v2`; the new path of a renamed file."""
    before = _FIELDS_BEFORE_PATH.get(line[:1])
    return None if before is None else line.split(" ", before)[-1].partition("\t")[0]
