import pytest
from torch import nn

from footplate.errors import UnknownNameError
from footplate.openmmlab.code_bases import Registry as MMCVRegistry
from footplate.openmmlab.mmengine.registry import Registry as MMEngineRegistry
from footplate.openmmlab.mmengine.registry import build_model_from_cfg
from footplate.registry import MODELS, Registry


def test_registry_of_a_code_base_builds_modules_with_the_function_of_mmengine() -> None:
    own = Registry("layer", scope="example", build_func=build_model_from_cfg)

    @own.register_module()
    def square(side: int = 1) -> nn.Module:
        return nn.Linear(side, side)

    assert own.build({"type": "square", "side": 3}).in_features == 3
    several = own.build([{"type": "square"}, {"type": "square", "side": 2}], default_args={"side": 5})
    assert [layer.in_features for layer in several] == [5, 2]


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
