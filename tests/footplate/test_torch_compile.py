from typing import Any

import pytest
from torch._inductor import config as inductor

from footplate.errors import ArgumentError
from footplate.torch_compile import _OPTIONS, compile_arguments

# What the compiler knows by a name of its own, and what torch.compile takes.
KNOWN: dict[str, Any] = dict(inductor.get_config_copy())


@pytest.mark.parametrize(
    "given",
    [
        True,
        {},
        {"mode": "max-autotune"},
        {"fullgraph": True, "dynamic": None, "backend": "aot_eager"},
        {"options": {"max_autotune": True, "cpp.threads": 2, "layout_optimization": False}},
    ],
)
def test_normal_use_passes(given: Any) -> None:
    assert compile_arguments(given) == ({} if given is True else given)


def test_nothing_is_compiled_by_default() -> None:
    assert compile_arguments(None) is None
    assert compile_arguments(False) is None


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("no", "compile"),
        ({"backend": "tvm"}, "compile.backend"),
        ({"fullgraph": "no"}, "compile.fullgraph"),
        ({"options": {"max_autotune": "no"}}, "compile.options.max_autotune"),
        ({"options": {"cpp.cxx": ["sh"]}}, "compile.options.cpp.cxx"),
    ],
)
def test_other_values_of_compile_are_refused(given: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        compile_arguments(given)
    assert caught.value.key == key


def test_each_option_is_a_flag_or_a_number_that_the_compiler_knows() -> None:
    for name in _OPTIONS:
        assert name in KNOWN
        assert isinstance(KNOWN[name], (bool, int, float, type(None))), name


def test_every_other_option_of_the_compiler_is_refused() -> None:
    for name in KNOWN.keys() - set(_OPTIONS):
        with pytest.raises(ArgumentError) as caught:
            compile_arguments({"options": {name: KNOWN[name]}})
        assert caught.value.key == f"compile.options.{name}"
