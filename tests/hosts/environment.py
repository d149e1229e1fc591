"""Environments with code bases, for the slow tests."""

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

# What mmcv-lite and the code bases import, installed without further dependencies, which include MMEngine.
COMMON = ["addict", "yapf", "platformdirs", "opencv-python-headless", "matplotlib", "contourpy", "cycler", "kiwisolver"]
COMMON += ["pyparsing", "python-dateutil", "six", "fonttools"]

_OPERATORS = '''
"""Declares the operators that torchvision asks torch for: its compiled ones need another build of torch."""
import sys

class Declaration:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            declared.append(self)

declared = []
sys.meta_path.insert(0, Declaration())
'''


def create_environment(folder: Path, packages: Sequence[str]) -> str:
    """Creates an environment with packages from PyPI, over those of this environment; returns its interpreter."""
    venv.create(folder, with_pip=True, symlinks=True)
    interpreter = str(folder / "bin" / "python")
    subprocess.run([interpreter, "-m", "pip", "install", "-q", "--no-deps", *packages], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    (site / "zz_parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "torchvision_operators.py").write_text(_OPERATORS)
    (site / "torchvision_operators.pth").write_text("import torchvision_operators\n")
    return interpreter
