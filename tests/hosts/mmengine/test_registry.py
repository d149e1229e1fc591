from torch import nn

from footplate.hosts.mmengine.registry import build_model_from_cfg
from footplate.registry import Registry


def test_registry_of_a_code_base_builds_modules_with_the_function_of_mmengine() -> None:
    own = Registry("layer", scope="example", build_func=build_model_from_cfg)

    @own.register_module()
    def square(side: int = 1) -> nn.Module:
        return nn.Linear(side, side)

    assert own.build({"type": "square", "side": 3}).in_features == 3
    several = own.build([{"type": "square"}, {"type": "square", "side": 2}], default_args={"side": 5})
    assert [layer.in_features for layer in several] == [5, 2]
