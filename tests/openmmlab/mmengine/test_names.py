"""Every name that 60 public packages import from `mmengine`, read from their sources on 2026-11-21."""

import importlib.util
from pathlib import Path

import pytest

from footplate import openmmlab
from footplate.errors import ConfigError
from tests.openmmlab.test_names import imported

IMPORTED = (Path(__file__).parents[2] / "data" / "vectors" / "mmengine_names.txt").read_text().split()


def test_names_that_packages_import() -> None:
    assert len(IMPORTED) == 371
    openmmlab.install()
    for name in IMPORTED:
        found, _, attribute = imported(name)
        assert hasattr(found, attribute), name


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "from mmengine.hooks import CheckpontHook",
            "footplate does not provide 'CheckpontHook' in 'mmengine.hooks'. Did you mean 'CheckpointHook'?",
        ),
        (
            "from mmengine.runner import wrap_forward",
            "footplate does not provide 'wrap_forward' in 'mmengine.runner'.",
        ),
        (
            "from mmengine.fileo import load",
            "footplate does not provide 'fileo' in 'mmengine'. Did you mean 'fileio'?",
        ),
    ],
)
def test_importing_an_unknown_name(statement: str, message: str) -> None:
    openmmlab.install()
    with pytest.raises(ModuleNotFoundError) as error:
        exec(statement, {})
    assert str(error.value) == message


def test_the_error_about_a_strategy_object_contains_its_class_name() -> None:
    openmmlab.install()
    with pytest.raises(ConfigError, match=r"found: 'DDPStrategy\(...\)'"):
        exec("from mmengine._strategy import DDPStrategy\nDDPStrategy()", {})


def test_reading_an_unknown_name() -> None:
    openmmlab.install()
    assert importlib.util.find_spec("mmengine.nosuch") is None
    with pytest.raises(AttributeError, match=r"'CheckpontHook' in 'mmengine.hooks'. Did you mean 'CheckpointHook'\?"):
        importlib.import_module("mmengine.hooks").CheckpontHook  # noqa: B018
    assert not hasattr(importlib.import_module("mmengine.hooks"), "__file__")
