"""`make rounding` is of use only while these tests pass."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
torch.manual_seed(0)
rows, matrix, images = torch.randn(8, 32), torch.randn(32, 16), torch.randn(4, 3, 9, 9)
layer = torch.nn.Conv2d(3, 4, 3)
for part, whole in [(rows[:4] @ matrix, (rows @ matrix)[:4]), (layer(images[:2]), layer(images)[:2])]:
    torch.testing.assert_close(part, whole)
    assert not torch.equal(part, whole)
assert torch.equal(rows @ matrix, rows @ matrix)
assert torch.equal(torch.ones(3, 5) @ torch.ones(5, 2), torch.full((3, 2), 5.0))
"""


def test_results_depend_on_shapes_in_child_processes_too() -> None:
    environment = {**os.environ, "ROUND_BY_SHAPE": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], env=environment, check=True)
