"""Messages about typical failures of user code say nothing twice, through commands and through scripts."""

import sys
from pathlib import Path

import pytest

from tests.footplate.cli.conftest import Command
from tests.support import TINY

PARTS = """\
import torch
from torch import nn

from footplate import DATASETS, MODELS
from tests.support import PointModel, Points


def use_wrong_label(inputs):
    return nn.functional.cross_entropy(inputs, torch.full((len(inputs),), 9))


FAILURES = {
    "label": use_wrong_label,
    "one sample": lambda inputs: nn.BatchNorm1d(4)(inputs[:1]),
    "shapes": lambda inputs: inputs @ torch.zeros(3, 2),
}


@MODELS.register_module(force=True)
class Failing(PointModel):
    def __init__(self, failure):
        super().__init__()
        self.layers = nn.Linear(4, 2)
        self.failure = FAILURES[failure]

    def score(self, inputs):
        self.failure(inputs)
        return super().score(inputs)


@DATASETS.register_module(force=True)
class Missing(Points):
    def __getitem__(self, index):
        return open("points.csv")


@DATASETS.register_module(force=True)
class Unpicklable(Points):
    def __init__(self, size):
        super().__init__(size)
        self.transform = lambda sample: sample
"""
SCRIPT = """\
from footplate import Config, Runner

if __name__ == "__main__":
    cfg = Config.fromfile("tiny.py")
    cfg.work_dir = "work"
    Runner.from_cfg(cfg).train()
"""
MODEL = 'type="ToyModel", dropout=0.1'
DATA = 'dataset=dict(type="Points", size=16)'
SPAWN = 'num_workers=1, multiprocessing_context="spawn"'


WRONG_LABEL = (MODEL, 'type="Failing", failure="label"', "Labels must be between 0")
MISSING_PARTS = ('"own_parts"', '"missing_parts"', "add that folder to PYTHONPATH")


@pytest.mark.filterwarnings("ignore:Got pickle error")
@pytest.mark.parametrize(
    ("command", "line", "instead", "advice"),
    [
        ("train", MODEL, 'type="Failing", failure="shapes"', ""),
        ("train", *WRONG_LABEL),
        ("run", *WRONG_LABEL),
        ("train", MODEL, 'type="Failing", failure="one sample"', "drop_last=True"),
        ("train", DATA, 'dataset=dict(type="Missing", size=16), num_workers=1', "relative paths are resolved"),
        ("train", DATA, f'dataset=dict(type="Unpicklable", size=16), {SPAWN}', "or set num_workers=0."),
        ("train", *MISSING_PARTS),
        ("run", *MISSING_PARTS),
    ],
)
def test_a_failure_of_user_code_has_its_advice_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, footplate: Command, command: str, line: str, instead: str, advice: str
) -> None:
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    monkeypatch.syspath_prepend(str(tiny.parent))
    (tiny.parent / "own_parts.py").write_text(PARTS)
    text = TINY.replace('imports=["tests.support"]', 'imports=["own_parts"]')
    assert line in text
    tiny.write_text(text.replace(line, instead, 1))
    (tiny.parent / "script.py").write_text(SCRIPT)
    code, _, errors = footplate("train", "tiny.py") if command == "train" else footplate("run", "script.py")
    assert code
    lines = [line for line in errors.splitlines() if line]
    if errors.startswith("Traceback"):
        lines = [line for line in lines if not line.startswith(" ")]
    assert sorted(set(lines)) == sorted(lines)
    assert not advice or errors.count(advice) == 1
