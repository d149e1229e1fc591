"""Trains a published MMPretrain config on footplate and on the real MMEngine, and compares the losses."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.footplate_openmmlab.environment import ENVIRONMENT
from tests.modules import ROOT


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_losses_of_mmpretrain_equal_those_on_mmengine_bit_for_bit(python: str, tmp_path: Path) -> None:
    env = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT), ENVIRONMENT["PYTHONPATH"]])}

    def train(engine: str) -> dict[str, Any]:
        words = ["mmpretrain", "data", "work", "--only", "resnet", "--iterations", "6", "--engine", engine]
        command = [python, "-m", "benchmarks.code_bases", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        assert "error" not in found, found
        return found

    losses = train("footplate")["losses"]
    assert len(losses) == 6
    assert losses == train("mmengine")["losses"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_installed_mmengine_answers_for_what_is_not_runtime(python: str) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:xdist", "tests/footplate_openmmlab/mmengine/test_with_mmengine.py"]
    done = subprocess.run([python, *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout
