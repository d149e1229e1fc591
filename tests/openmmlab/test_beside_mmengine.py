"""Trains a published config of MMPretrain on footplate and on MMEngine, in an environment of their own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.openmmlab.environment import COMMON, MMPRETRAIN, create_environment

PACKAGES = ["mmcv-lite==2.1.0", "mmengine==0.10.7", *MMPRETRAIN]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_losses_of_mmpretrain_equal_those_on_mmengine_bit_for_bit(tmp_path: Path) -> None:
    python = create_environment(tmp_path / "environment", [*PACKAGES, *COMMON])
    root = Path(__file__).parents[2]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "src", root / "operators"))),
        "OMP_NUM_THREADS": "1",
    }

    def train(engine: str) -> dict[str, Any]:
        words = ["mmpretrain", "data", "work", "--only", "resnet", "--iterations", "12", "--engine", engine]
        command = [python, "-m", "benchmarks.code_bases", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        assert "error" not in found, found
        return found

    losses = train("footplate")["losses"]
    assert len(losses) == 12
    assert losses == train("mmengine")["losses"]
