"""Built-in models do not choose a memory layout, since channels_last corrupts memory with some oneDNN kernels."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import footplate
from footplate.models import SmallResNet
from footplate.tasks.detection import SmallDetector
from footplate.tasks.segmentation import SmallSegmentor

BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: SmallResNet(3, widths=(4, 8), depths=(1, 1)),
    "segmentor": lambda: SmallSegmentor(3, widths=(4, 8), depths=(1, 1)),
    "detector": lambda: SmallDetector(3, widths=(4, 8), depths=(1, 1), levels=1, head_width=8),
}
# Trains with the layers whose backward kernel in oneDNN writes past its workspace in channels_last.
TRAINING_SCRIPT = """
import torch
from footplate.models import SmallResNet
torch.manual_seed(0)
for size in (7, 8, 14, 28):
    network = SmallResNet(1, widths=(4, 8, 16), depths=(1, 1, 1), stem_stride=1)
    for _ in range(5):
        network(torch.randn(4, 1, size, size))[-1].sum().backward()
print("done")
"""


@pytest.mark.parametrize(("isa", "threads"), [("AVX2_VNNI", 1), ("AVX2", 1), ("AVX2", 2), ("", 2)])
def test_small_resnet_trains_with_each_instruction_set(isa: str, threads: int) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(Path(footplate.__file__).parents[1]),
    }
    environment.pop("ONEDNN_MAX_CPU_ISA", None)
    if isa:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    found = subprocess.run(
        [sys.executable, "-c", TRAINING_SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "done\n"), found.stderr
