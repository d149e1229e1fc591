import subprocess

import pytest

from tests.footplate_openmmlab.environment import ENVIRONMENT
from tests.modules import ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sizes_pixels_and_labels_are_those_of_mmcv_and_the_code_bases(python: str) -> None:
    command = [python, "tests/footplate_openmmlab/pixels.py", "200"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " comparisons, 0 differences" in done.stdout
