"""Describes the environment of a run."""

import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from footplate.extensions import known_packages
from footplate.messages import pluralize
from footplate.storage import commit_bytes

try:
    import resource
except ImportError:  # not available on Windows
    resource = None  # type: ignore[assignment]

_logger = logging.getLogger("footplate.records")
_GIT_TIMEOUT = 5  # seconds, enough to check many files
_MAX_PATCH = 4 << 20  # bytes
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
        commit. They are followed by `command` and `packages` (all packages with their versions). `git tree` is None if
        the current folder is in no git repository, or in one without a commit; otherwise a dict with the `folder` of
        the repository, the `commit`, the `branch`, the `changed` tracked files, and the `untracked` modules that have
        been imported, with the beginning of their SHA-256. If it is None, `modules` contains the imported modules from
        the current folder and from the script's folder, by name, with the beginning of their SHA-256.
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
    modules = _own_modules() if tree is None else {}
    return {**facts, "command": sys.argv, "packages": installed, "git tree": tree, "modules": modules}


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


def save_changes(tree: dict[str, Any] | None, path: str) -> None:
    """Writes the changes of tracked files since the commit to `path`, as a patch for `git apply`.

    Does not write a patch of more than 4 MiB. Adds the beginning of the patch's SHA-256 to the `git tree` of
    `describe_environment`, as `patch`. Does nothing if there are no changes, or if git fails or takes too long.
    """
    if tree is not None and tree["changed"]:
        with suppress(OSError, subprocess.SubprocessError):
            options = "--binary", "--no-color", "--no-relative", "--no-ext-diff", "--no-textconv"
            patch = _git(tree["folder"], "diff", *options, "HEAD", "--")
            tree["patch"] = hashlib.sha256(patch).hexdigest()[:12]
            if len(patch) <= _MAX_PATCH:
                commit_bytes(path, patch)
            else:
                _logger.warning("The uncommitted changes exceed 4 MiB, so changes.patch is not written.")


def _read_git() -> dict[str, Any] | None:
    """Returns the `git tree` of `describe_environment`.

    The branch is "HEAD" if none is checked out. Returns None if there is no repository or commit, or if git fails or
    takes too long.
    """
    try:
        top, commit, branch = _lines(".", "rev-parse", "--show-toplevel", "HEAD", "--abbrev-ref", "HEAD")
        changed = _lines(top, "diff", "--name-only", "HEAD", "--")
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: a branch is named HEAD
        return None
    return {"folder": top, "commit": commit, "branch": branch, "changed": changed, "untracked": _untracked(top)}


def _untracked(top: str) -> dict[str, str]:
    """Returns the beginning of the SHA-256 of each imported module in a repository that git does not track."""
    with suppress(OSError, subprocess.SubprocessError):  # git takes long if there are many other files
        names = _lines(top, "ls-files", "--others", "--exclude-standard", "*.py")
        if names:  # the files of all modules take a while to resolve
            imported = {os.path.realpath(getattr(module, "__file__", None) or "") for module in [*sys.modules.values()]}
            files = {name: Path(top, name) for name in names if str(Path(top, name)) in imported}
            return {name: _hash(file) for name, file in files.items()}
    return {}


def _own_modules() -> dict[str, str]:
    """Returns the `modules` of `describe_environment`."""
    files = {name: Path(getattr(module, "__file__", None) or "-").absolute() for name, module in [*sys.modules.items()]}
    folders = {Path.cwd(), files["__main__"].parent}  # the current folder in a notebook
    library = Path(os.__file__).parts[-2]  # such as python3.13, which also contains site-packages
    return {
        name: _hash(file)
        for name, file in files.items()
        if folders & {*file.parents} and library not in file.parts and file.suffix == ".py" and file.is_file()
        if name != "__mp_main__"  # another name of `__main__`
    }


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _lines(folder: str, *arguments: str) -> list[str]:
    return _git(folder, *arguments).decode(errors="replace").splitlines()


def _git(folder: str, *arguments: str) -> bytes:
    # Disable core.fsmonitor: a repository's config could set it to any program, which git would run.
    settings = ["-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "diff.noprefix=false"]
    command = ["git", "--no-optional-locks", *settings, *arguments]
    return subprocess.check_output(command, cwd=folder, stderr=subprocess.DEVNULL, timeout=_GIT_TIMEOUT)
