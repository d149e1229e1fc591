"""Trains a published config of a fork of OneDL, without its compiled mmcv, in an environment of its own."""

from pathlib import Path

import pytest

from tests.footplate_openmmlab.environment import create_environment, resume_bit_for_bit
from tests.footplate_openmmlab.host_configs import SEGMENTATION

FORK = ["mmcv-lite==2.2.0", "onedl-mmsegmentation==1.4.2", "ftfy", "prettytable"]


@pytest.mark.slow
@pytest.mark.xdist_group("forks")
@pytest.mark.timeout(1800)
def test_a_config_of_a_fork_trains_and_resumes_bit_for_bit(tmp_path: Path, run_folder: Path, common: str) -> None:
    python = create_environment(tmp_path / "environment", FORK, common)
    output = resume_bit_for_bit(python, run_folder, SEGMENTATION, "iter_4.pth", "iter_8.pth")
    assert "Using mmsegmentation 1.4.2" in output
