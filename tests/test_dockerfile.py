"""Runs the steps of the Dockerfile as a script, in an environment of their own."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.footplate_openmmlab.environment import ENVIRONMENT, create_environment

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")


def test_the_linter_accepts_the_dockerfile() -> None:
    if not shutil.which("hadolint"):
        pytest.skip("hadolint is not installed")
    done = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_steps_install_footplate(tmp_path: Path) -> None:
    copied = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (line[1:] for line in copied if line.startswith("!")):
        source, target = ROOT / name, tmp_path / "context" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    python = create_environment(tmp_path / "environment", ["pip"])  # the packages of this one, torch among them
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", TEXT, re.MULTILINE))
    environment = {**ENVIRONMENT, **arguments, "PATH": f"{Path(python).parent}:{ENVIRONMENT['PATH']}"}
    del environment["PYTHONPATH"]
    steps = re.findall(r"^RUN (?!apt-get)(.*)$", TEXT, re.MULTILINE)
    assert len(steps) == 2
    for step in steps:
        subprocess.run(["sh", "-euc", step], cwd=tmp_path / "context", env=environment, check=True)
    (entry,) = re.findall(r'^ENTRYPOINT \["(.*)"\]$', TEXT, re.MULTILINE)
    shown = subprocess.run([entry, "doctor", "--json"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert b'"footplate"' in shown.stdout
    where = [python, "-c", "import footplate, footplate_operators as o; print(footplate.__file__, o.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert found.count(str(tmp_path / "environment")) == 2
