import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from footplate.cli.main import main
from footplate.config import Config
from footplate.errors import FootplateError
from footplate.registry import MODELS
from footplate.tools.check import check
from footplate.tools.model_sections import _names_of
from tests.support import TINY, settings

REGISTRY = """
from footplate.registry import MODELS as PARENT, Registry
MODELS = Registry('model', parent=PARENT, scope='mmseg', locations=['mmseg.models'])
"""
CODE_BASE = """
from footplate.models import BaseModel
from torch import nn
from mmseg.registry import MODELS

@MODELS.register_module()
class Loss(nn.Module):
    def __init__(self, weight=1.0):
        super().__init__()

@MODELS.register_module()
class Head(nn.Module):
    def __init__(self, num_classes, loss):
        super().__init__()
        self.loss = MODELS.build(loss)

@MODELS.register_module()
class WideHead(Head):
    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)

@MODELS.register_module()
class Segmentor(nn.Module):
    def __init__(self, head, train_cfg=None, test_cfg=None):
        super().__init__()
        self.minimum = test_cfg.get('score_thr', 0)
        self.head = MODELS.build(head)

@MODELS.register_module()
class PointModel(BaseModel):
    def __init__(self, test_cfg):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs, labels, mode):
        scores = self.layer(inputs)
        loss = nn.functional.cross_entropy(scores, labels)
        return {'loss': loss} if mode == 'loss' else list(zip(scores.argmax(1), labels))
"""


@pytest.fixture(autouse=True, params=["site-packages"])
def code_base(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small package with the name of a code base, in a folder of installed packages or, as "fork", elsewhere."""
    folder = tmp_path / ".venv" / request.param / "mmseg"
    (folder / ".mim/configs").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '1.2.2'\n")
    (folder / "registry.py").write_text(REGISTRY)
    (folder / "models.py").write_text(CODE_BASE)
    (folder / ".mim/configs/old.py").write_text("test_cfg = dict(score_th=0.1)\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setattr("footplate.tools.model_sections._names_of", _names_of.__wrapped__)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmseg"]:
        del sys.modules[name]
    MODELS.children.pop("mmseg", None)


def checked(folder: Path, *, kind: str = "WideHead", **changes: Any) -> list[str]:
    """Checks a config file whose head, loss or test_cfg has additional keys. Returns the warnings."""
    loss = {"type": "Loss", **changes.pop("loss", {})}
    head = {"type": kind, "num_classes": 3, "loss": loss, **changes.pop("head", {})}
    model = {"type": "Segmentor", "head": head, "test_cfg": {"score_thr": 0.1}, **changes}
    (folder / "run.json").write_text(json.dumps(settings(folder, model=model, default_scope="mmseg")))
    return check(Config.fromfile(folder / "run.json"), run=False).warnings


@pytest.mark.parametrize(
    ("changes", "key", "message", "suggestion"),
    [
        ({"loss": {"wieght": 2.0}}, "model.head.loss.wieght", "model 'Loss' takes no argument 'wieght'", "weight"),
        # By a base class.
        ({"head": {"num_clases": 3}}, "model.head.num_clases", "model 'WideHead' takes no argument", "num_classes"),
        ({"kind": "WideHed"}, "model.head.type", "unknown model 'WideHed'", "WideHead"),
    ],
)
@pytest.mark.parametrize("code_base", ["site-packages", "fork"], indirect=True)
def test_misspelled_names_in_nested_sections_are_errors(
    tmp_path: Path, changes: dict[str, Any], key: str, message: str, suggestion: str
) -> None:
    with pytest.raises(FootplateError, match=message) as caught:
        checked(tmp_path, **changes)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


@pytest.mark.parametrize(
    ("key", "near"),
    [("score_th", "score_thr"), ("something_else", None)],
)
def test_misspelled_keys_of_test_cfg_are_warnings(tmp_path: Path, key: str, near: str | None) -> None:
    warnings = checked(tmp_path, test_cfg={"nested": {key: 0.1}})
    text = f"model.test_cfg.nested.{key} has no effect: mmseg does not read it. Did you mean '{near}'?"
    assert [warning.partition(": ")[2] for warning in warnings] == ([text] if near else [])


@pytest.mark.parametrize("command", ["check", "train"])
def test_commands_that_train_warn_about_misspelled_keys_of_test_cfg(
    command: str, current_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = 'default_scope = "mmseg"\nmodel = dict(type="PointModel", test_cfg=dict(score_th=0.1))'
    Path("tiny.py").write_text(TINY.replace('model = dict(type="ToyModel", dropout=0.1)', model))
    assert main([command, "tiny.py"]) == 0
    shown = " ".join("".join(capsys.readouterr()).split())
    assert shown.count("tiny.py:3: model.test_cfg.score_th has no effect: mmseg does not read it.") == 1
