"""The virtual environment of each engine, made from its list of pinned packages, and the library of `calls.c`."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def home() -> Path:
    """Returns the folder of environments and results."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "resume-table"


def engines() -> list[str]:
    """Returns the names of all engines."""
    return sorted(path.stem.removeprefix("with_") for path in (HERE / "engines").glob("with_*.py"))


def python_of(engine: str) -> Path:
    """Returns the Python of an engine's environment, and creates the environment if it is missing or outdated."""
    listed = HERE / "lists" / f"{engine}.txt"
    folder = home() / engine
    python, mark = folder / "bin" / "python", folder / "made-from"
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    if not mark.is_file() or mark.read_text() != digest:
        print(f"making the environment of {engine} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(listed)]
        subprocess.run(install, check=True, cwd=HERE)  # lists may name folders relative to this one
        mark.write_text(digest)
    return python


def build_library() -> Path:
    """Compiles `calls.c` if it is missing or outdated, and returns the library."""
    source = HERE / "calls.c"
    library = home() / f"calls-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True)
        made.replace(library)
    return library
