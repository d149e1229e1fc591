import importlib.util

import pytest

import footplate_openmmlab as openmmlab


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "from mmengine.hooks import CheckpontHook",
            "footplate does not provide 'CheckpontHook' in 'mmengine.hooks'. Did you mean 'CheckpointHook'?",
        ),
        (
            "from mmengine.runer import Runner",
            "footplate does not provide 'runer' in 'mmengine'. Did you mean 'runner'?",
        ),
    ],
)
def test_importing_an_unknown_name(statement: str, message: str) -> None:
    openmmlab.install()
    with pytest.raises(ModuleNotFoundError) as error:
        exec(statement, {})
    assert str(error.value) == message


def test_reading_an_unknown_name() -> None:
    openmmlab.install()
    assert importlib.util.find_spec("mmengine.nosuch") is None
    with pytest.raises(AttributeError, match=r"'CheckpontHook' in 'mmengine.hooks'. Did you mean 'CheckpointHook'\?"):
        importlib.import_module("mmengine.hooks").CheckpontHook  # noqa: B018
    assert not hasattr(importlib.import_module("mmengine.hooks"), "__file__")
