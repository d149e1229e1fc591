"""Uses the models of runs that were started from Python: builds them, and says what to do instead of predicting."""

import importlib
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner
from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.errors import FootplateError
from footplate_vision.inference import Predictor, export_model, open_trained

MODELS = """
from pathlib import Path
from shutil import rmtree
import torch
from torch import nn

def build_model(width: int = 8, layers: tuple = (1,)) -> nn.Module:
    assert isinstance(layers, tuple)
    return nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.ReLU(), nn.Linear(width, 2))

def plain_function(path):
    Path(path).touch()
"""


@pytest.fixture
def folder(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the module `fp_models`."""
    (current_folder / "fp_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(current_folder))
    yield current_folder
    sys.modules.pop("fp_models", None)


def fp_models() -> Any:
    return importlib.import_module("fp_models")


def train(model: Any, work_dir: str = "run", **settings: Any) -> Runner:
    """Trains for one epoch of four iterations."""
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(16, 4), torch.randint(2, (16,))), batch_size=4)
    optimizer = {"optimizer": {"type": "SGD", "lr": 0.1}}
    settings = {"loss": nn.CrossEntropyLoss(), "max_epochs": 1, "log_level": "WARNING", **settings}
    runner = Runner(model, work_dir, data, optim_wrapper=optimizer, **settings)
    runner.train()
    return runner


def test_seed_of_the_run_determines_the_built_model_and_it_resumes(folder: Path) -> None:
    settings = {"randomness": {"seed": 1}, "max_epochs": 2}
    whole = train(fp_models().build_model, "whole", **settings)
    train(fp_models().build_model, "parts", randomness={"seed": 1})
    parts = train(fp_models().build_model, "parts", **settings, resume=True)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["os.mkdir", "shutil.rmtree", "fp_models.rmtree", "fp_models.plain_function"])
def test_a_checkpoint_calls_no_other_function(folder: Path, kind: str) -> None:
    cfg = f"model = dict(type={kind!r}, path='made')\n"
    save_checkpoint({"meta": {"cfg": cfg}, "state_dict": {"w": torch.ones(1)}}, "bad.pth")
    expected = "must not refer to|accepts only subclasses|unknown model|no test or validation data"
    with pytest.raises(FootplateError, match=expected):
        export_model(open_trained("bad.pth"), "model.pt2", "torch-export")
    assert sorted(each.name for each in folder.iterdir() if "pycache" not in each.name) == ["bad.pth", "fp_models.py"]


@pytest.mark.parametrize("builder", [True, False])
def test_predictor_shows_the_lines_that_load_the_module(folder: Path, builder: bool) -> None:
    train(fp_models().build_model if builder else fp_models().build_model())
    with pytest.raises(FootplateError) as caught:
        Predictor("run/epoch_1.pth")
    lines = [line.strip() for line in str(caught.value).splitlines()][-3:]
    names = {"model": fp_models().build_model(), "inputs": torch.randn(3, 4)}
    exec("\n".join(lines), names)
    expected = load_checkpoint("run/epoch_1.pth")["state_dict"]
    assert all(torch.equal(value, expected[key]) for key, value in names["model"].state_dict().items())
    assert names["predictions"].shape == (3, 2)


@pytest.mark.parametrize(
    "content",
    [
        {"meta": {"config": "import os\n", "epoch": 1}, "state_dict": OrderedDict(w=torch.ones(2))},
        {"meta": {"cfg": "model = [dict(type=open)]"}, "state_dict": {"w": torch.ones(2)}, "ema_state_dict": {"w": 0}},
        {"model": {"w": torch.ones(2)}, "optimizer": {}, "epoch": 3},
        OrderedDict(w=torch.ones(2)),
    ],
    ids=["mmcv", "mmengine", "torchvision", "state dict"],
)
def test_weights_of_any_checkpoint_become_safetensors(folder: Path, content: Any) -> None:
    from footplate.cli.main import main

    torch.save(content, "weights.pth")
    assert main(["checkpoint", "export", "weights.pth", "-o", "weights.safetensors"]) == 0
    assert load_checkpoint("weights.safetensors")["w"].tolist() == [1, 1]
