import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ConfigError
from footplate.openmmlab.mmengine.infer import BaseInferencer, get_config
from footplate.registry import MODELS

INDEX = """
Models:
  - Name: small
    Config: configs/small/small.py
    Weights: https://example.org/small.pth
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an importable package that contains a published config and its metafile."""
    folder = tmp_path / "published_boxes"
    (folder / ".mim" / "configs" / "small").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / ".mim" / "configs" / "small" / "small.py").write_text("model = dict(type='Small')\n")
    (folder / ".mim" / "configs" / "small" / "other.py").write_text("model = dict(type='Other')\n")
    (folder / ".mim" / "model-index.yml").write_text("Import:\n  - metafile.yml\n")
    (folder / ".mim" / "metafile.yml").write_text(INDEX)
    monkeypatch.syspath_prepend(tmp_path)
    yield "published_boxes"
    sys.modules.pop("published_boxes", None)


def test_a_published_config_is_loaded_by_name(package: str) -> None:
    assert get_config(f"{package}::small/small.py").model.type == "Small"
    assert get_config(f"{package}::small/small.py", pretrained=True).model_path == "https://example.org/small.pth"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small/small.py", "does not specify a code base"),
        ("published_boxes::small/smal.py", "has no config 'small/smal.py'"),
        ("no_such_boxes::small.py", "is not installed"),
    ],
)
def test_a_missing_config_raises(package: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_config(name)


@MODELS.register_module()
class OneLayer(nn.Linear):
    def __init__(self) -> None:
        super().__init__(1, 1)


class OwnInferencer(BaseInferencer):
    def visualize(self, inputs: list[Any], preds: Any, show: bool = False, **kwargs: Any) -> Any:
        return None

    def postprocess(
        self, preds: Any, visualization: Any, return_datasample: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        return {"predictions": preds}

    def _init_pipeline(self, cfg: Any) -> Any:
        return lambda value: value


def checkpoint_with(path: Path, cfg: str) -> str:
    torch.save({"meta": {"cfg": cfg}, "state_dict": nn.Linear(1, 1).state_dict()}, path)
    return str(path)


def test_an_inferencer_reads_the_config_in_a_checkpoint(tmp_path: Path) -> None:
    inferencer = OwnInferencer(weights=checkpoint_with(tmp_path / "a.pth", "model = dict(type='OneLayer')\n"))
    assert isinstance(inferencer.model, OneLayer)


def test_an_inferencer_executes_no_code_of_a_checkpoint(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    weights = checkpoint_with(tmp_path / "a.pth", f"open({str(mark)!r}, 'w')\nmodel = dict(type='OneLayer')\n")
    with pytest.raises(ConfigError, match="cannot be read as data"):
        OwnInferencer(weights=weights)
    assert not mark.exists()
