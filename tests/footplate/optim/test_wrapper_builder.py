"""Building optimizer wrappers."""

from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from footplate.errors import BuildError, FootplateError, UnknownNameError
from footplate.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper

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
