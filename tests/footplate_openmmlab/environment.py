"""Environments with code bases, small data, and commands in them, for the slow tests."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests import programs

# What mmcv-lite and the code bases import besides the packages of this environment.
COMMON = ["mmengine==0.10.7", "termcolor", "addict", "yapf", "opencv-python-headless", "six"]
# MMPretrain, and what it imports.
MMPRETRAIN = ["setuptools<70", "mmpretrain==1.2.0", "torchvision==0.28.*", "transformers<4.50", "tokenizers<0.22"]
MMPRETRAIN += ["huggingface_hub<1", "einops", "mat4py", "model-index", "ordered-set", "markdown"]
MMPRETRAIN += ["importlib_metadata", "zipp", "lazy_importer"]

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


def create_environment(folder: Path, packages: Sequence[str], *below: str) -> str:
    """Creates an environment with packages from PyPI; returns its interpreter.

    Args:
        folder: The folder of the environment.
        packages: The packages, which are installed without their dependencies.
        below: Interpreters of environments whose packages it has too, as it has those of this environment.
    """
    venv.create(folder, symlinks=True)
    interpreter = str(folder / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-compile", "--no-deps"]
    subprocess.run([*install, *packages], check=True)
    site = packages_of(interpreter)
    parents = [*map(str, map(packages_of, below)), sysconfig.get_path("purelib")]
    (site / "zz_parent.pth").write_text("".join(f"{parent}\n" for parent in parents))
    (site / "torchvision_operators.py").write_text(_OPERATORS)
    (site / "torchvision_operators.pth").write_text("import torchvision_operators\n")
    return interpreter


def packages_of(interpreter: str) -> Path:
    """Returns the folder of the packages of an environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(interpreter).parents[1] / "lib" / version / "site-packages"


def write_scenes(folder: Path) -> None:
    """Writes four pictures, label maps of three classes, boxes and folders of two classes to `folder/data`."""
    random = np.random.default_rng(0)
    images, annotations = [], []
    for name in ("images", "labels"):
        (folder / "data" / name).mkdir(parents=True)
    for index in range(4):
        image = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"data/images/{index}.png")
        target = folder / "data/classes" / "ab"[index % 2]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"data/images/{index}.png", target)
        label = random.integers(0, 3, (8, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(label).save(folder / f"data/labels/{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "width": 64, "height": 64})
        for box in range(2):
            place = [float(each) for each in random.integers(0, 24, 2)] + [30.0, 34.0]
            annotation = {"id": 10 * index + box, "image_id": index, "category_id": box + 1, "bbox": place}
            annotations.append({**annotation, "area": 30 * 34, "iscrowd": 0})
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    boxes = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "data/boxes.json").write_text(json.dumps(boxes))


_ROOT = Path(__file__).parents[2]
_PATHS = [str(_ROOT / "src"), os.environ.get("PYTHONPATH", "")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, _PATHS)), "OMP_NUM_THREADS": "1"}


def python_runs(python: str, folder: Path, *words: str, code: int = 0) -> str:
    """Runs a program in an environment and returns its output."""
    done = programs.run(*words, folder=folder, environment=ENVIRONMENT, python=python)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def run(python: str, folder: Path, *words: str, code: int = 0) -> str:
    """Runs a command of footplate and returns its output."""
    return python_runs(python, folder, "-m", "footplate", *words, code=code)


def train(python: str, folder: Path, config: str, *arguments: str) -> str:
    (folder / "config.py").write_text(config)
    return run(python, folder, "train", "config.py", *arguments)


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=False)["state_dict"]
    return found


def same(first: Path, second: Path) -> bool:
    """Checks whether two checkpoints have the same weights, bit for bit."""
    before, after = weights(first), weights(second)
    return before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def resume_bit_for_bit(python: str, folder: Path, config: str, middle: str, last: str) -> str:
    """Checks that a run and its continuation from `middle` write equal weights to `last`. Returns the first output."""
    output = train(python, folder, config, "--work-dir", "whole")
    (folder / "again").mkdir()
    shutil.copy(folder / "whole" / middle, folder / "again")
    assert "Resumed from" in train(python, folder, config, "--work-dir", "again", "--resume")
    assert same(folder / "whole" / last, folder / "again" / last)
    assert not same(folder / "whole" / middle, folder / "whole" / last)
    return output
