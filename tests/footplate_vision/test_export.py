import json
from pathlib import Path

import pytest
import torch

from tests.footplate.cli.conftest import Command
from tests.footplate_vision.inference.models import save_untrained_recipe


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained_recipe("fashion-cls", tmp_path_factory.mktemp("cls"))


@pytest.fixture(autouse=True)
def _inside(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(classifier)


def test_export_prints_the_largest_difference(footplate: Command) -> None:
    code, said, errors = footplate("export", "model.pth", "--to", "torch-export", "--size", 32, 32)
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert lines[0].startswith("model.pt2: ")
    assert lines[1:4] == [
        "input       images (N, 1, H, W), float32, 0 to 255",
        "output      probabilities (N, 10)",
        "output      labels (N)",
    ]
    assert lines[4].endswith("tested with inputs of 2x1x32x32, 3x1x32x32, 1x1x33x33, 1x1x35x37")
    probabilities, labels = torch.export.load("model.pt2").module()(torch.zeros(5, 1, 28, 28))
    assert torch.equal(probabilities.argmax(1), labels)
    _, said, _ = footplate("export", "model.pth", "--to", "torch-export", "--json")
    shown = json.loads(said)
    assert shown["inputs"]["images"][0] == ["N", 1, "H", "W"]
    assert shown["outputs"] == {"probabilities": ["N", 10], "labels": ["N"]}
