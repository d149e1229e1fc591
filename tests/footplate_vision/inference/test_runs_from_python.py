"""Uses the models of runs that were started from Python: exports them, and says what to do instead of predicting."""

import importlib
import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from footplate import BaseModel, Runner
from footplate.checkpoint import load_checkpoint, load_weights, save_checkpoint
from footplate.config import Config
from footplate.engine.running.model_setup import describe_builder
from footplate.errors import ArgumentError, FootplateError
from footplate_vision.inference import Predictor, describe_export, export_model, export_module, export_run, open_trained
from tests import programs
from tests.footplate.cli.conftest import environment

HAS_ONNX = all(importlib.util.find_spec(each) for each in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime")
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
SCRIPT = """
import torch
from functools import partial
from torch.utils.data import DataLoader, TensorDataset
from footplate import Runner
from fp_models import build_model

data = DataLoader(TensorDataset(torch.randn(16, 4), torch.randint(2, (16,))), batch_size=4)
adam = dict(optimizer=dict(type="Adam", lr=0.1))

def training_step(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

build = partial(build_model, width=6)
Runner(build, "run", data, max_epochs=1, training_step=training_step, optim_wrapper=adam).train()
"""
EMA: Any = {"type": "EMAHook", "momentum": 0.3}


@pytest.fixture
def folder(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the module `fp_models`."""
    (current_folder / "fp_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(current_folder))
    yield current_folder
    sys.modules.pop("fp_models", None)


def fp_models() -> Any:
    return importlib.import_module("fp_models")


class Tokens(nn.Module):
    """Takes two inputs by name, of which one has the name of an output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> dict[str, Tensor]:
        values = self.embedding(tokens) * scale
        scores = self.head((values if mask is None else values * mask[..., None]).mean(1))
        return {"scores": scores, "tokens": tokens + 1}


def train(model: Any, work_dir: str = "run", **settings: Any) -> Runner:
    """Trains for one epoch of four iterations."""
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(16, 4), torch.randint(2, (16,))), batch_size=4)
    optimizer = {"optimizer": {"type": "SGD", "lr": 0.1}}
    settings = {"loss": nn.CrossEntropyLoss(), "max_epochs": 1, "log_level": "WARNING", **settings}
    runner = Runner(model, work_dir, data, optim_wrapper=optimizer, **settings)
    runner.train()
    return runner


@needs_onnx
def test_commands_in_new_processes_use_what_a_script_has_trained(folder: Path) -> None:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    (folder / "train.py").write_text(SCRIPT)

    def call(*arguments: str) -> str:
        done = programs.run(*arguments, folder=folder, environment=environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("train.py")
    call("-m", "footplate", "report", "run", "-o", "report.html")
    command = "footplate export run/epoch_1.pth --to onnx"
    assert command in (folder / "report.html").read_text()
    shown = call("-m", *command.split())
    assert "input       input (N, 4), float32\noutput      output (N, 2)\n" in shown
    model = fp_models().build_model(width=6)
    load_weights(model, "run/epoch_1.pth", strict=True)
    inputs = torch.randn(7, 4)
    (found,) = onnxruntime.InferenceSession("run/epoch_1.onnx").run(None, {"input": inputs.numpy()})
    assert torch.allclose(torch.from_numpy(found), model.eval()(inputs), atol=1e-6)


@pytest.mark.parametrize("suffix", ["pt2", pytest.param("onnx", marks=needs_onnx)])
def test_exported_module_has_the_averaged_weights_in_evaluation_mode(folder: Path, suffix: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 2))
    runner = train(model, custom_hooks=[EMA])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    exported = export_run(runner, f"model.{suffix}", torch.randn(1, 4))
    assert exported.tested == [(3, 4), (1, 4)]
    assert "input       input (N, 4), float32\n" in describe_export(exported)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    saved = load_checkpoint("run/epoch_1.pth")
    assert not torch.equal(saved["state_dict"]["0.weight"], before["0.weight"])
    model.load_state_dict(saved["state_dict"])
    exported = export_module(model, f"saved.{suffix}", torch.randn(2, 4))  # checked against the averaged weights
    if suffix == "pt2":
        inputs = torch.randn(5, 4)
        assert torch.equal(torch.export.load("model.pt2").module()(inputs), model.eval()(inputs))


def test_size_of_images_varies_unless_the_layers_fix_it(folder: Path) -> None:
    images, convolution = torch.rand(2, 3, 16, 24), nn.Conv2d(3, 5, 1)
    assert export_module(convolution, "free.pt2", images).outputs == {"output": ("N", 5, "H", "W")}
    fixed = export_module(nn.Sequential(nn.Flatten(), nn.Linear(1152, 5)), "fixed.pt2", images)
    assert fixed.inputs == {"input": (("N", 3, 16, 24), "float32")}


def test_compiled_module_is_exported(folder: Path) -> None:
    runner = train(fp_models().build_model, compile={"backend": "eager"})
    assert load_checkpoint("run/epoch_1.pth")["meta"]["inputs"]["args"] == ("float32[4, 4]",)
    assert export_run(runner, "model.pt2", torch.zeros(1, 4)).difference == 0


def test_inputs_may_be_named(folder: Path) -> None:
    example = {"mask": torch.ones(1, 5, dtype=torch.bool), "tokens": torch.zeros(1, 5, dtype=torch.long)}
    exported = export_module(Tokens(), "tokens.pt2", example)
    assert describe_export(exported).splitlines()[1:5] == [
        "input       tokens (N, 5), int64",
        "input       mask (N, 5), bool",
        "output      scores (N, 2)",
        "output      output_tokens (N, 5)",
    ]
    loaded = torch.export.load("tokens.pt2").module()
    assert loaded(**{key: value.repeat(3, 2) for key, value in example.items()})["tokens"].shape == (3, 10)


def test_checkpoint_records_a_builder_as_data(folder: Path) -> None:
    runner = train(partial(fp_models().build_model, width=6, layers=(2, 3)), randomness={"seed": 1})
    assert isinstance(runner.history.model, nn.Sequential)
    meta = load_checkpoint("run/epoch_1.pth")["meta"]
    assert meta["cfg"] == "model = dict(type='fp_models.build_model', width=6, layers=(2, 3))\n"
    assert meta["inputs"] == {"args": ("float32[4, 4]",), "kwargs": {}}
    exported = export_model(open_trained("run/epoch_1.pth"), "model.pt2", "torch-export")
    assert exported.tested == [(5, 4), (4, 4)]
    for name, value in (("size", (8, 8)), ("image", "image.png")):
        with pytest.raises(ArgumentError, match=f"--{name} requires a config with test or validation data"):
            export_model(open_trained("run/epoch_1.pth"), "model.pt2", "torch-export", **{name: value})  # type: ignore[arg-type]


def test_seed_of_the_run_determines_the_built_model_and_it_resumes(folder: Path) -> None:
    settings = {"randomness": {"seed": 1}, "max_epochs": 2}
    whole = train(fp_models().build_model, "whole", **settings)
    train(fp_models().build_model, "parts", randomness={"seed": 1})
    parts = train(fp_models().build_model, "parts", **settings, resume=True)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_classes_are_builders_too(folder: Path) -> None:
    assert describe_builder(nn.Flatten) == {"type": "torch.nn.modules.flatten.Flatten"}
    assert describe_builder(partial(nn.Linear, in_features=3, out_features=2))["out_features"] == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda models: lambda: models.build_model(),
            r"another process(.|\n)*from models import build_model",
        ),
        (lambda models: models.plain_function, r"def plain_function\(...\) -> torch.nn.Module:"),
        (lambda models: partial(models.build_model, 3), "the function's arguments must be passed by name"),
    ],
)
def test_builder_that_cannot_be_recorded_is_explained(folder: Path, make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(FootplateError, match=message):
        describe_builder(make(fp_models()))


def test_run_without_a_recorded_builder_names_what_to_write(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "footplate.engine"):
        model = fp_models().build_model()
        train(lambda: model, log_level="INFO")
    assert "`footplate export` cannot rebuild the model of this run" in caplog.text
    with pytest.raises(FootplateError, match=r"does not specify how to build(.|\n)*\+model.type=models.build_model"):
        export_model(open_trained("run/epoch_1.pth"), "model.pt2", "torch-export")
    trained = open_trained("run/epoch_1.pth", Config({"model": {"type": "fp_models.build_model"}}))
    assert export_model(trained, "model.pt2", "torch-export").difference == 0


@pytest.mark.parametrize("kind", ["os.mkdir", "shutil.rmtree", "fp_models.rmtree", "fp_models.plain_function"])
def test_a_checkpoint_calls_no_other_function(folder: Path, kind: str) -> None:
    cfg = f"model = dict(type={kind!r}, path='made')\n"
    save_checkpoint({"meta": {"cfg": cfg, "inputs": {}}, "state_dict": {"w": torch.ones(1)}}, "bad.pth")
    with pytest.raises(FootplateError, match="must not refer to|accepts only subclasses|unknown model"):
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


def test_base_model_is_exported_from_python(folder: Path) -> None:
    class Own(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, inputs: Tensor, labels: Any = None, mode: str = "tensor") -> Any:
            scores = self.layer(inputs)
            return {"loss": nn.functional.cross_entropy(scores, labels)} if mode == "loss" else scores

    runner = train(Own, loss=None)
    assert export_run(runner, "model.pt2", torch.zeros(1, 4)).outputs == {"output": ("N", 2)}


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
