"""The engines of the table, their environments, and the library of `calls.c`."""

import hashlib
import os
import subprocess
from pathlib import Path

from benchmarks.environments import cache, make_environment

HERE = Path(__file__).parent


def engines() -> list[str]:
    """Returns the names of all engines."""
    return sorted(path.stem.removeprefix("with_") for path in (HERE / "engines").glob("with_*.py"))


def python_of(engine: str) -> Path:
    """Returns the Python of an engine's environment, which is created if it is missing or outdated."""
    return make_environment(HERE / "lists" / f"{engine}.txt", cache("resume-table") / engine)


def build_library() -> Path:
    """Compiles `calls.c` if it is missing or outdated, and returns the library."""
    source = HERE / "calls.c"
    library = cache("resume-table") / f"calls-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True)
        made.replace(library)
    return library
