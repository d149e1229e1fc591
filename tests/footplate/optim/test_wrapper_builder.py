"""Building optimizer wrappers."""

from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from footplate.errors import BuildError, FootplateError, UnknownNameError
from footplate.models.plain_model import PlainModel
from footplate.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

SECTION = {"type": "SGD", "lr": 0.1}


def test_wrappers_are_returned_unchanged_and_optimizers_are_wrapped() -> None:
    model = nn.Linear(1, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    wrapper = OptimWrapper(optimizer)
    several = OptimWrapperDict(single=wrapper)
    assert (build_optim_wrapper(model, wrapper), build_optim_wrapper(model, several)) == (wrapper, several)
    assert build_optim_wrapper(model, optimizer).optimizer is optimizer
    section = {"type": "OptimWrapper", "optimizer": optimizer, "accumulative_counts": 2}
    built = build_optim_wrapper(model, section)
    assert built.optimizer is optimizer
    assert built.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_registered_constructor_is_used_by_name() -> None:
    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
    class ForThisTest:
        def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Any = None) -> None:
            self.given = optim_wrapper_cfg, paramwise_cfg

        def __call__(self, model: nn.Module) -> OptimWrapper:
            section, paramwise = self.given
            assert paramwise == {"any": "thing"}
            assert "constructor" not in section
            assert type(model) is nn.Linear  # without the wrapper of a plain module
            return OPTIM_WRAPPERS.build({"type": "OptimWrapper"}, SGD(model.parameters(), lr=7.0))  # type: ignore[no-any-return]

    section = {"constructor": "ForThisTest", "optimizer": SECTION, "paramwise_cfg": {"any": "thing"}}
    assert build_optim_wrapper(PlainModel(nn.Linear(1, 1)), section).get_lr() == {"lr": [7.0]}


def test_constructor_for_several_optimizers_receives_only_their_sections() -> None:
    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
    class SeveralForThisTest:
        def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Any = None) -> None:
            self.sections = optim_wrapper_cfg

        def __call__(self, model: nn.Module) -> OptimWrapperDict:
            return OptimWrapperDict(**{name: build_optim_wrapper(model, part) for name, part in self.sections.items()})

    section = {"constructor": "SeveralForThisTest", "generator": {"optimizer": SECTION}}
    assert list(build_optim_wrapper(nn.Linear(1, 1), section).parts) == ["generator"]


@pytest.mark.parametrize(
    ("cfg", "error", "key", "suggestion"),
    [
        ({}, BuildError, "optim_wrapper.optimizer", None),
        ({"optimizer": {"type": "SDG"}}, UnknownNameError, "optim_wrapper.optimizer.type", "SGD"),
        (
            {"optimizer": SECTION, "constructor": "DefaultOptimWraperConstructor"},
            UnknownNameError,
            "optim_wrapper.constructor",
            "DefaultOptimWrapperConstructor",
        ),
    ],
)
def test_invalid_sections_are_refused_with_their_key(
    cfg: Any, error: type[FootplateError], key: str, suggestion: Any
) -> None:
    with pytest.raises(error) as caught:
        build_optim_wrapper(nn.Linear(1, 1), cfg)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
