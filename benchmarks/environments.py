"""Virtual environments outside the checkout, made from lists of pinned packages."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def cache(name: str) -> Path:
    """Returns the folder for the environments and results of a benchmark."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / name


def make_environment(packages: Path, folder: Path) -> Path:
    """Creates an environment if it is missing or outdated, and returns its Python.

    Args:
        packages: A file of requirements. Paths in it are relative to the parent of the file's folder.
        folder: The folder of the environment.
    """
    python, mark = folder / "bin" / "python", folder / "made-from"
    content = packages.read_bytes()
    if b"--editable" in content:  # the metadata of footplate contains its entry points
        content += (ROOT / "pyproject.toml").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if not mark.is_file() or mark.read_text() != digest:
        print(f"making the environment {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(packages)]
        subprocess.run(install, check=True, cwd=packages.parents[1])
        mark.write_text(digest)
    return python
