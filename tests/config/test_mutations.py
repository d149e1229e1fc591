"""Configs with random bytes changed load or are refused in our words, and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.tasks.recipes import recipes
from tests.modules import load_benchmark

_WORKER = Path(__file__).parent / "mutation_worker.py"

SAMPLES = {
    "base.py": "norm = dict(type='BN')\nmodel = dict(type='Net', head=dict(norm=norm, sizes=[(1, 2), (3, 4)]))\n"
    "n = 3\n",
    "child.py": (
        "_base_ = ['./base.py']\nimport copy\nmodel = dict(head=dict(_delete_=True, type='Head'))\n"
        "more = copy.deepcopy(_base_.model)\nmore.head.sizes.append((5, 6))\nlr = {{ _base_.n }} * 1e-3\n"
        "folder = '{{ fileDirname }}/{{$HOME:x}}'\nfor i in range(n if 'n' in dir() else 2):\n    last = i\n"
    ),
    "pure.py": (
        "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
        "from torch.optim import SGD\noptimizer = dict(type=SGD, lr=0.1)\nmodel.update(dict(head=dict(x=1)))\n"
    ),
}


def outcome_of(folder: Path, seed: int, count: int, timeout: float) -> dict[str, object]:
    command = [sys.executable, str(_WORKER), str(folder), str(seed), str(count)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    outcome: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return outcome


def write_in_all_forms(cfg: Config, stem: Path) -> None:
    for suffix in (".json", ".yaml", ".toml"):
        cfg.dump(stem.with_suffix(suffix))


def test_mutated_samples(tmp_path: Path) -> None:
    for name, text in SAMPLES.items():
        (tmp_path / name).write_text(text)
    write_in_all_forms(Config.fromfile(tmp_path / "base.py"), tmp_path / "data")
    for recipe in recipes():
        shutil.copy(recipe.path, tmp_path)
    outcome = outcome_of(tmp_path, seed=1, count=400, timeout=100)
    assert outcome["wrong"] == []
    assert outcome["loads"]
    assert outcome["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmdet-3.3.0", "mmsegmentation-1.2.2", "mmselfsup-0.11.0", "mmdet-2.28.2"])
def test_mutated_published_configs(tmp_path: Path, name: str) -> None:
    corpus = load_benchmark("corpus")
    folder, digests = corpus.fetch(name), corpus.listed(name)[0]
    for path in digests:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, tmp_path / path)
    outcome = outcome_of(tmp_path, seed=len(name), count=2500, timeout=1700)
    assert outcome["wrong"] == []
