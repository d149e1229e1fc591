"""Describes the environment of a run."""

import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import torch

from footplate.extensions import known_packages
from footplate.messages import pluralize
from footplate.storage import commit_bytes

try:
    import resource
except ImportError:  # not available on Windows
    resource = None  # type: ignore[assignment]

_logger = logging.getLogger("footplate.records")
_SAFE_SETTINGS = ("core.filemode", "core.symlinks", "core.ignorecase", "core.autocrlf", "core.eol")  # of git
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
        "OpenCV": describe_opencv(),
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


def describe_opencv() -> str:
    """Returns what the last bits of pixels depend on: the versions of OpenCV and IPP, and the instructions they use."""
    ipp = cv2.ipp.getIppVersion() if cv2.ipp.useIPP() else "no IPP"
    return f"{cv2.__version__} ({ipp}; {cv2.getCPUFeaturesLine() if cv2.useOptimized() else 'not optimized'})"


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
        with suppress(OSError, subprocess.SubprocessError), _safe_repository(tree["folder"]) as git:
            patch = git("diff", "--binary", "--ignore-submodules=dirty", "HEAD", "--")
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
        top, commit, branch = _lines(_git(".", "rev-parse", "--show-toplevel", "HEAD", "--abbrev-ref", "HEAD"))
        with _safe_repository(top) as git:
            changed = _lines(git("diff", "--name-only", "--ignore-submodules=dirty", "HEAD", "--"))
            untracked = _untracked(top, git)
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: a branch is named HEAD
        return None
    return {"folder": top, "commit": commit, "branch": branch, "changed": changed, "untracked": untracked}


def _untracked(top: str, git: Callable[..., bytes]) -> dict[str, str]:
    """Returns the beginning of the SHA-256 of each imported module in a repository that git does not track."""
    with suppress(OSError, subprocess.SubprocessError):  # git takes long if there are many other files
        names = _lines(git("ls-files", "--others", "--exclude-standard", "*.py"))
        if names:  # the files of all modules take a while to resolve
            imported = {os.path.realpath(getattr(module, "__file__", None) or "") for module in [*sys.modules.values()]}
            files = {name: Path(top, name) for name in names if str(Path(top, name)) in imported}
            return {name: _hash(file) for name, file in files.items()}
    return {}


def _own_modules() -> dict[str, str]:
    """Returns the `modules` of `describe_environment`."""
    modules = sys.modules.copy()  # in one step, during which no other thread imports a module
    files = {name: Path(getattr(module, "__file__", None) or "-").absolute() for name, module in modules.items()}
    folders = {Path.cwd(), files["__main__"].parent}  # the current folder in a notebook
    library = Path(os.__file__).parts[-2]  # such as python3.13, which also contains site-packages
    return {
        name: _hash(file)
        for name, file in files.items()
        if library not in file.parts and folders & {*file.parents} and file.suffix == ".py" and file.is_file()
        if name != "__mp_main__"  # another name of `__main__`
    }


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


@contextmanager
def _safe_repository(top: str) -> Iterator[Callable[..., bytes]]:
    """Yields a function that runs a git command on a repository without executing any program that it configures.

    A repository's config can name programs: filters, monitors, drivers, hooks, and what a remote runs to send missing
    objects. The function runs git with the index, objects and files of the repository, but in a temporary repository
    folder with a config of its own. The commands must not inspect the files of submodules, in which git would start
    another git.
    """
    paths = _lines(_git(top, "rev-parse", "HEAD", "--git-path", "index", "--git-path", "objects"))
    commit, index, objects = paths[0], *(os.path.join(top, path) for path in paths[1:])
    with tempfile.TemporaryDirectory(prefix="footplate-git-") as folder:
        settings = [f"--git-dir={folder}", f"--work-tree={top}", "-c", "core.quotePath=false"]
        for setting in _lines(_git(top, "config", "--list", "--includes")):
            if setting.partition("=")[0] in _SAFE_SETTINGS:
                settings += ["-c", setting]
        for name in ("objects", "refs"):
            Path(folder, name).mkdir()
        Path(folder, "HEAD").write_text(commit)
        if len(commit) == 64:
            Path(folder, "config").write_text("[core]\nrepositoryformatversion=1\n[extensions]\nobjectformat=sha256\n")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        variables |= {"GIT_INDEX_FILE": index, "GIT_OBJECT_DIRECTORY": objects, "GIT_CONFIG_NOSYSTEM": "1"}
        variables |= {"HOME": folder, "XDG_CONFIG_HOME": folder, "GIT_ATTR_NOSYSTEM": "1"}
        yield lambda *arguments: _git(top, *settings, *arguments, env=variables)


def _lines(output: bytes) -> list[str]:
    return output.decode(errors="replace").splitlines()


def _git(folder: str, *arguments: str, env: Mapping[str, str] | None = None) -> bytes:
    """Runs git. In a repository of others, only `rev-parse` and `config --list` are safe; see `_safe_repository`."""
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.check_output(command, cwd=folder, env=env, stderr=subprocess.DEVNULL, timeout=_GIT_TIMEOUT)
