"""The virtual environments of the engines, created outside the checkout from the files in `lists`."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent / "lists"
# The bare loop runs in footplate's environment.
_SHARED = {"bare": "footplate"}


def home() -> Path:
    """Returns the folder of environments and results."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "footplate" / "bench"


def python_of(engine: str) -> Path:
    """Returns the Python of an engine's environment, and creates the environment if it is missing or outdated."""
    name = _SHARED.get(engine, engine)
    listed = LISTS / f"{name}.txt"
    folder = home() / name
    python, mark = folder / "bin" / "python", folder / "made-from"
    # The metadata of footplate contains its entry points.
    content = listed.read_bytes() + ((ROOT / "pyproject.toml").read_bytes() if name == "footplate" else b"")
    digest = hashlib.sha256(content).hexdigest()
    if not mark.is_file() or mark.read_text() != digest:
        print(f"making the environment of {name} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(listed)], check=True)
        if name == "footplate":
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT)], check=True
            )
        mark.write_text(digest)
    return python


def variables() -> dict[str, str]:
    """Returns the environment variables of a measuring process: our sources first on the path, and no network."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "src"))),
        "OMP_NUM_THREADS": "",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
