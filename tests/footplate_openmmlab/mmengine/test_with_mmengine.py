"""The modules that come from the installed MMEngine. The slow tests run this file in an environment that has it."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import footplate_openmmlab as openmmlab
from footplate.config import ConfigDict
from footplate.errors import ConfigError, DataError
from footplate.registry import MODELS
from footplate_openmmlab.names import NAMES, names_of
from footplate_openmmlab.requirements import installed_version
from tests.footplate_openmmlab.names import IN_MMCV_LITE, imported
from tests.modules import ROOT

pytestmark = pytest.mark.skipif(not installed_version("mmengine"), reason="MMEngine is needed: pip install mmengine")
VECTORS = ROOT / "tests" / "data" / "vectors"


@pytest.fixture(autouse=True)
def installed() -> None:
    openmmlab.install()


@pytest.mark.parametrize(("package", "count"), [("mmengine", 371), ("mmcv", 193)])
def test_names_that_packages_import(package: str, count: int) -> None:
    """Every name that 60 public packages import from `mmengine`, and from mmcv 1.x where mmcv 2 lacks it."""
    names = (VECTORS / f"{package}_names.txt").read_text().split()
    assert len(names) == count
    for name in {*names} - IN_MMCV_LITE:
        found, module, attribute = imported(name)
        assert hasattr(found, attribute) or names_of(f"{module}.{attribute}") is not None, name


@pytest.mark.filterwarnings("ignore")  # of torch, about the optimizers that `zero_optimizer` imports
def test_a_module_is_either_of_the_runtime_or_the_installed_file() -> None:
    (folder,) = imported("mmengine:__path__")[0].__path__
    files = {
        ".".join(path.relative_to(Path(folder).parent).with_suffix("").parts) for path in Path(folder).rglob("*.py")
    }
    modules = {file.removesuffix(".__init__") for file in files}
    assert {name for name in NAMES if name.startswith("mmengine")} <= modules
    for name in modules:
        module = imported(f"{name}:")[0]
        assert hasattr(module, "__file__") == (names_of(name) is None), name


class Command:
    def __reduce__(self) -> Any:
        return eval, ("1 + 1",)


def test_reading_a_file_executes_no_code(tmp_path: Path) -> None:
    fileio: Any = imported("mmengine.fileio:load")[0]
    data = {"boxes": [1, 2.5, None], "names": {"a"}}
    fileio.dump(data, tmp_path / "data.pkl")
    assert fileio.load(tmp_path / "data.pkl") == data
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Command()))
    with pytest.raises(DataError, match=r"'builtins\.eval', which may execute code"):
        fileio.load(tmp_path / "bad.pkl")
    (tmp_path / "bad.yaml").write_text("a: !!python/object/apply:eval ['1 + 1']\n")
    with pytest.raises(yaml.constructor.ConstructorError):
        fileio.load(tmp_path / "bad.yaml")


@pytest.fixture
def inferencer(tmp_path: Path) -> Iterator[Any]:
    """Builds an inferencer from a checkpoint with the text of a config."""
    infer: Any = imported("mmengine.infer:BaseInferencer")[0]

    class OneLayer(nn.Linear):
        def __init__(self) -> None:
            super().__init__(1, 1)

    class Inferencer(infer.BaseInferencer):  # type: ignore[misc]
        _init_pipeline = visualize = postprocess = print

    def build(cfg: str) -> Any:
        weights = {"meta": {"cfg": cfg}, "state_dict": nn.Linear(1, 1).state_dict()}
        torch.save(weights, tmp_path / "a.pth")
        return Inferencer(weights=str(tmp_path / "a.pth"))

    MODELS.register_module(module=OneLayer)
    yield build
    del MODELS._entries["OneLayer"]


def test_an_inferencer_reads_the_config_in_a_checkpoint_without_executing_it(inferencer: Any, tmp_path: Path) -> None:
    found = inferencer("model = dict(type='OneLayer')\n")
    assert (type(found.model).__name__, type(found.cfg)) == ("OneLayer", ConfigDict)
    with pytest.raises(ConfigError, match="cannot be read as data"):
        inferencer(f"open({str(tmp_path / 'mark')!r}, 'w')\nmodel = dict(type='OneLayer')\n")
    assert not (tmp_path / "mark").exists()


def test_a_published_config_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mmflow"
    (folder / ".mim" / "configs" / "small").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / ".mim" / "configs" / "small" / "small.py").write_text("model = dict(type='Small')\n")
    (folder / ".mim" / "model-index.yml").write_text("Import:\n  - metafile.yml\n")
    weights = "https://example.org/small.pth"
    model = {"Name": "small", "Config": "configs/small/small.py", "Weights": weights}
    (folder / ".mim" / "metafile.yml").write_text(yaml.safe_dump({"Models": [model]}))
    monkeypatch.syspath_prepend(tmp_path)
    hub: Any = imported("mmengine.hub:get_config")[0]
    found = hub.get_config("mmflow::small/small.py", pretrained=True)
    assert (found.model.type, found.model_path) == ("Small", weights)
    sys.modules.pop("mmflow", None)


def test_first_generation_code_reads_files_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert imported("mmcv:FileClient")[0].FileClient("disk").get_text(tmp_path / "a.txt") == "text"
    assert caplog.messages == []
