"""Trains with repositories that import packages and compiled modules that are not installed."""

import importlib
import logging
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import footplate_openmmlab as openmmlab
from footplate.errors import ConfigError
from footplate_openmmlab.skipped_imports import MissingPackageError, missing
from tests.footplate.cli.conftest import Command
from tests.footplate_openmmlab.conftest import WritePackage

CONFIG = """
custom_imports = dict(imports=['tests.support'])
model = dict(type='{model}')
data = dict(samples_per_gpu=4, workers_per_gpu=0, train=dict(type='Points'))
optimizer = dict(type='SGD', lr=0.1)
optimizer_config = dict()
lr_config = dict(policy='fixed')
runner = dict(type='IterBasedRunner', max_iters=2)
plugin = True
plugin_dir = 'repository/'
"""

PLUGIN = """
import typing
import a_lost_package.nn as lost, math
from a_lost_package.structures import Boxes, registry
if math.pi > 3:
    import another_lost_package.deep
try:
    import a_third_lost_package as third
except ImportError:
    third = None
from torch import nn
from mmcv.runner import HOOKS
from mmdet.models import DETECTORS
from tests.support import ToyModel
from . import warp_ext
from repository import bend_ext
import LostAttention
import in_scripts
import pywt

logger = lost.get_logger(__name__)
logger.info("hello")
SIZE = lost.SIZE * 2 + 1


def area(boxes: Boxes, more: "lost.X | None" = None, other: typing.Optional[lost.Grid[int]] = lost.DEFAULT) -> Boxes:
    return isinstance(boxes, (Boxes, lost.Grid))


@registry.register("decorated")
def decorated():
    return 1


@DETECTORS.register_module()
class SmallModel(ToyModel):
    pass


@DETECTORS.register_module()
class LostModel(ToyModel, lost.Module):
    def __init__(self):
        super().__init__()


@DETECTORS.register_module()
@registry.register
class DecoratedModel(ToyModel):
    pass


@DETECTORS.register_module()
class UsingModel(ToyModel):
    def forward(self, *args, **kwargs):
        return warp_ext.warp(*args)


@DETECTORS.register_module()
class BendingModel(ToyModel):
    def forward(self, *args, **kwargs):
        return bend_ext.bend(*args)


@DETECTORS.register_module()
class WaveletModel(ToyModel):
    def forward(self, *args, **kwargs):
        return pywt.Wavelet(*args)


@DETECTORS.register_module()
class ScriptModel(ToyModel):
    def forward(self, *args, **kwargs):
        return in_scripts.look(*args)
"""


@pytest.fixture
def repository(package: WritePackage, current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A repository in the current folder with a plugin that imports missing packages."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    package("mmcv", {"__init__": "__version__ = '2.1.0'\n"})
    package("repository", {"__init__": PLUGIN})
    (current_folder / "scripts").mkdir()
    (current_folder / "scripts" / "in_scripts.py").write_text("def look(*args): pass")
    (current_folder / "setup.py").write_text("setup(ext_modules=[CUDAExtension('ops.LostAttention', [])])")
    openmmlab.install()
    yield lambda: importlib.import_module("repository")
    missing.clear()


def train(footplate: Command, model: str) -> tuple[int, str, str]:
    Path("config.py").write_text(CONFIG.format(model=model))
    return footplate("train", "config.py", "--work-dir", "run")


def test_packages_that_are_not_used_do_not_stop_a_run(
    repository: Any, footplate: Command, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "footplate")
    code, _, errors = train(footplate, "SmallModel")
    assert (code, Path("run/iter_2.pth").exists()) == (0, True), errors
    text = "Not installed, which is an error only where they are used: " + ", ".join(
        f"{package} (repository/__init__.py)"
        for package in (
            "LostAttention",
            "a_lost_package",
            "another_lost_package",
            "bend_ext",
            "in_scripts",
            "pywt",
            "warp_ext",
        )
    )
    assert text in caplog.messages


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("LostModel", "'a_lost_package' is not installed, and repository/__init__.py uses 'a_lost_package.nn.Module'"),
        (
            "DecoratedModel",
            "'a_lost_package' is not installed, and repository/__init__.py uses 'a_lost_package.structures.registry"
            ".register'",
        ),
        (
            "UsingModel",
            "the compiled module 'warp_ext' of this repository is not built, and repository/__init__.py uses "
            "'warp_ext.warp'",
        ),
        (
            "BendingModel",
            "the compiled module 'bend_ext' of this repository is not built, and repository/__init__.py uses "
            "'repository.bend_ext.bend'",
        ),
        (
            "WaveletModel",
            "'pywt' is not installed, and repository/__init__.py uses 'pywt.Wavelet'\n  Install the package, usually "
            "with `pip install PyWavelets`, or use a config that does not need it.",
        ),
        (
            "ScriptModel",
            "'in_scripts' is in scripts/, which Python does not search, and repository/__init__.py uses "
            "'in_scripts.look'\n  Add the folder to the search path: PYTHONPATH=scripts",
        ),
    ],
)
def test_a_missing_package_that_is_used_is_an_error(
    repository: Any, footplate: Command, model: str, problem: str
) -> None:
    code, _, errors = train(footplate, model)
    assert code == 2
    assert errors.startswith(f"error: {problem}\n")
    assert "Traceback" not in errors


def test_placeholders(repository: Any) -> None:
    module = repository()
    assert module.third is None
    assert module.area(1) is False
    assert float(module.lost.__version__[2:]) < 2  # as OpenPCDet compares the version of spconv
    for use in (
        module.decorated,
        module.Boxes,
        lambda: list(module.SIZE),
        lambda: module.SIZE == 1,
        lambda: module.SIZE + 1,
        lambda: bool(module.lost),
        lambda: int(module.lost.SIZE),
        lambda: module.another_lost_package.deep.function(3),
        module.LostAttention.forward,
    ):
        with pytest.raises(MissingPackageError):
            use()
    with pytest.raises(MissingPackageError, match="repository/__init__.py uses 'a_lost_package.nn.X'"):
        pickle.loads(pickle.dumps(module.lost.X))()
    with pytest.raises(MissingPackageError, match="'LostAttention'"):
        module.LostAttention.forward(1)
    with pytest.raises(TypeError, match="missing_a_lost_package"):
        torch.empty(2, module.lost.SIZE)


CHANGED = """
try:
    from torch.nn import Identity, Removed
except ImportError:
    Removed = None


class Changed(Removed): ...
"""


def test_copies_of_code_bases_tolerate_other_packages_but_not_their_own_mistakes(
    package: WritePackage, caplog: pytest.LogCaptureFixture
) -> None:
    openmmlab.install()
    inits = {
        "__init__": "from .heads import *\n",
        "heads/__init__": "from .changed import Changed\nfrom .own import Own\n",
    }
    copy = {**inits, "heads/changed": CHANGED, "heads/own": "class Own: ...\n"}
    package("mmflow", copy)
    heads = importlib.import_module("mmflow.heads")
    assert heads.Own.__module__ == "mmflow.heads.own"
    assert not caplog.messages
    cause = r"'Changed' could not be imported: ImportError: cannot import name 'Removed' from 'torch.nn'"
    with pytest.raises(ConfigError, match=rf"{cause}.*heads/changed.py:8"):
        heads.Changed()
    package("mmedit", {**copy, "heads/own": "class Own(Lost): ...\n"})
    with pytest.raises(NameError, match="'Lost' is not defined"):
        importlib.import_module("mmedit")
