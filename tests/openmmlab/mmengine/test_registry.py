import pytest
from torch import nn

from footplate.errors import UnknownNameError
from footplate.openmmlab.code_bases import Registry as MMCVRegistry
from footplate.openmmlab.mmengine.registry import Registry as MMEngineRegistry
from footplate.registry import MODELS, Registry


def test_get_of_a_code_base_returns_none_for_an_unknown_name() -> None:
    root = Registry("layer", scope="root")
    for kind in (MMEngineRegistry, MMCVRegistry):
        own = kind("layer", parent=root, scope=kind.__module__)
        own.register_module("square", module=nn.Linear)
        assert own.get("square") is nn.Linear
        assert own.get("round") is None
        with pytest.raises(UnknownNameError, match="unknown layer 'round'"):
            own.build({"type": "round"})


def test_root_registries_are_instances_of_the_class_of_mmengine() -> None:
    class Own(MMEngineRegistry):
        pass

    assert isinstance(MODELS, MMEngineRegistry)
    assert isinstance(Own("layer", scope="own"), MMEngineRegistry)
    assert not isinstance(MODELS, Own)
    assert not isinstance(nn.Linear(1, 1), MMEngineRegistry)
