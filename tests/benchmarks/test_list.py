"""The list of benchmarks: each has a module and a page, and every command in the documentation runs one of them."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.environments import ROOT

_PAGES = [ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "operators").glob("*.md")]
_FILES = [*_PAGES, *(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]


def test_every_benchmark_has_a_module_and_a_page() -> None:
    assert [name for name, each in BENCHMARKS.items() if find_spec(f"benchmarks.{each.module}") is None] == []
    assert [name for name, each in BENCHMARKS.items() if not (ROOT / each.page).is_file()] == []


def test_every_script_is_listed() -> None:
    scripts = [
        path for path in (ROOT / "benchmarks").rglob("*.py") if 'if __name__ == "__main__":' in path.read_text("utf-8")
    ]
    names = [".".join(path.relative_to(ROOT / "benchmarks").with_suffix("").parts) for path in scripts]
    listed = {each.module for each in BENCHMARKS.values()}
    started_by_others = re.compile(r"__main__|data\.worker|engines\.measure|resume\.(engines\.\w+|warm)")
    own = [name.removesuffix(".__main__") for name in names if not started_by_others.fullmatch(name)]
    assert sorted(own) == sorted(listed)


def test_every_command_in_the_documentation_names_a_benchmark() -> None:
    """A file that was removed is named with the commit that has it."""
    unknown = []
    for path in _FILES:
        for line in path.read_text("utf-8").splitlines():
            named = re.findall(r"-m benchmarks (\w+)", line)
            files = re.findall(r"\b(benchmarks/[\w/]+\.py)\b|-m (benchmarks\.[\w.]*\w)", line)
            gone = [file or module for file, module in files if not (ROOT / file).is_file() or module]
            unknown += [f"{path}: {name}" for name in named if name not in {*BENCHMARKS, "NAME"}]
            unknown += [f"{path}: {name}" for name in gone if "commit 7b76c651" not in line]
    assert unknown == []


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["suites", "--help"], 0, "usage: python -m benchmarks suites [-h] --reference PYTHON"),
        (["speed"], 2, "error: there is no benchmark 'speed'. List them with `python -m benchmarks`."),
    ],
)
def test_a_benchmark_runs_by_its_name(arguments: list[str], code: int, output: str) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert (done.stdout + done.stderr).startswith(output)
