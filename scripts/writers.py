"""Tries the writers, and the first generation's loggers, against the real libraries: writes, reads back, resumes.

    python scripts/writers.py [WRITER ...]

Each library of writers.txt gets an environment of its own below .writers/, since they do not agree on their
dependencies; torch and the rest come from the environment that runs this. What is installed already is kept. At the
end stands a table.
"""

import re
import site
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/footplate/records/test_writers_read_back.py",
    "tests/footplate_openmmlab/first_generation/adapters/test_logger_services.py",
)


def wanted(names: list[str]) -> list[tuple[str, str]]:
    """Returns writers with their pinned libraries: all, or those of `names`."""
    lines = (ROOT / "scripts/writers.txt").read_text().splitlines()
    pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#")]
    unknown = set(names) - {kind for kind, _ in pairs}
    if unknown:
        raise SystemExit(f"no such writer: {', '.join(sorted(unknown))}")
    return [(kind, pin) for kind, pin in pairs if not names or kind in names]


def environment(kind: str, pin: str) -> Path:
    """Returns the interpreter of the environment that has `pin`, which is made if there is none."""
    folder = ROOT / ".writers" / re.sub(r"[^\w.=-]", "_", pin)
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=False)
        packages = next((folder / "lib").glob("python*/site-packages"))
        # What is not installed here is looked for in the environment of this script.
        outer = [path for path in site.getsitepackages() if Path(path).is_dir()]
        (packages / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outer))
        subprocess.run([python, "-m", "pip", "install", "--quiet", pin], check=True)
        ready.touch()
    return python


def main(names: list[str]) -> int:
    """Tries the writers and returns how many failed."""
    failures = 0
    rows = []
    for kind, pin in wanted(names):
        begin = time.monotonic()
        python = environment(kind, pin)
        installed = time.monotonic()
        command = [str(python), "-m", "pytest", *TESTS, "-q", "-k", kind, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", done.stdout)
        # Nothing may be skipped: the library is there.
        failed = done.returncode != 0 or any("skipped" in each for each in counts)
        if failed:
            failures += 1
            sys.stdout.write(done.stdout + done.stderr)
        took = f"{installed - begin:.0f} s + {time.monotonic() - installed:.0f} s"
        rows.append((kind, pin, ", ".join(counts) or "nothing ran", took))
    for row in [("writer", "library", "tests", "install + tests"), *rows]:
        sys.stdout.write(f"{row[0]:<20}{row[1]:<28}{row[2]:<24}{row[3]}\n")
    return failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
