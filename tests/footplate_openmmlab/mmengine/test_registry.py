import pytest
from torch import nn

from footplate.errors import BuildError, UnknownNameError
from footplate.registry import VISUALIZERS, Registry, using_scope
from footplate_openmmlab.code_bases import Registry as MMCVRegistry
from footplate_openmmlab.mmengine.registry import Registry as MMEngineRegistry


def test_get_of_a_code_base_returns_none_for_an_unknown_name() -> None:
    root = Registry("layer", scope="root")
    for kind in (MMEngineRegistry, MMCVRegistry):
        own = kind("layer", parent=root, scope=kind.__module__)
        own.register_module("square", module=nn.Linear)
        assert own.get("square") is nn.Linear
        assert own.get("round") is None
        with pytest.raises(UnknownNameError, match="unknown layer 'round'"):
            own.build({"type": "round"})


def test_answers_of_a_code_base_do_not_depend_on_the_scope_of_the_last_run() -> None:
    root = Registry("layer", scope="root")
    own = MMEngineRegistry("layer", parent=root, scope="own", locations=["no_such_layers"])
    other = MMEngineRegistry("layer", parent=root, scope="other")
    for registry, layer in ((root, nn.Linear), (own, nn.Conv1d), (other, nn.Conv2d)):
        registry.register_module("layer", module=layer)
    for scope in (None, "other", "root"):
        with using_scope(scope):
            assert own.get("layer") is nn.Conv1d
    with using_scope("other"):
        assert isinstance(
            own.build({"type": "layer", "in_channels": 1, "out_channels": 1, "kernel_size": 1}), nn.Conv2d
        )
    with pytest.raises(ModuleNotFoundError):  # only a name that is not known yet imports the modules
        own.get("late")
    assert list(own.module_dict) == ["layer"]


def test_wrong_base_class_in_a_code_base_is_an_error_only_when_it_is_used() -> None:
    own = MMEngineRegistry("visualizer", parent=VISUALIZERS, scope="any_base")
    try:
        own.register_module("Painter", module=nn.Linear)
        with pytest.raises(BuildError, match=r"accepts only subclasses of footplate\.visualization"):
            own.build({"type": "Painter"})
    finally:
        del VISUALIZERS.children["any_base"]
