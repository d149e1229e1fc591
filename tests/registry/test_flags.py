"""Every argument of a registered class that is annotated bool refuses other values."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest

from footplate.errors import ArgumentError, FootplateError
from footplate.registry import ROOT_REGISTRIES, Registry
from footplate.registry.build import build_object, check_arguments
from footplate.registry.flags import check_numbers, flags_of


def flags() -> Iterator[Any]:
    for name, registry in ROOT_REGISTRIES.items():
        for kind, entry in sorted(registry.module_dict.items()):
            for flag in flags_of(entry):
                if name != "RUNNERS":
                    yield pytest.param(registry, entry, flag, id=f"{kind}.{flag}")


@pytest.mark.parametrize(("registry", "entry", "flag"), [*flags()])
def test_a_flag_that_is_no_bool_is_refused(registry: Registry, entry: Any, flag: str) -> None:
    required = {
        name: None
        for name, each in inspect.signature(entry).parameters.items()
        if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }

    for use in (check_arguments, build_object):
        with pytest.raises(FootplateError, match=f"{flag} must be True or False|takes no argument '{flag}'") as caught:
            use(entry, registry.noun, {**required, flag: "no"})
        assert caught.value.key == flag


def test_flags_are_found_in_every_kind_of_entry() -> None:
    found = {
        name: sum(len(flags_of(each)) for each in registry.module_dict.values())
        for name, registry in ROOT_REGISTRIES.items()
    }

    for name in (
        "HOOKS",
        "LOOPS",
        "DATA_SAMPLERS",
        "DATASETS",
        "TRANSFORMS",
        "MODELS",
        "MODEL_WRAPPERS",
        "OPTIMIZERS",
        "OPTIM_WRAPPERS",
        "PARAM_SCHEDULERS",
        "METRICS",
        "VISBACKENDS",
        "LOG_PROCESSORS",
    ):
        assert found[name], name


def test_a_default_that_is_a_bool_is_a_flag_of_ours() -> None:
    """No flag escapes the check because its annotation is missing."""
    for registry in ROOT_REGISTRIES.values():
        for name, entry in registry.module_dict.items():
            if entry.__module__.startswith("footplate."):
                parameters = inspect.signature(entry).parameters.values()
                assert {each.name for each in parameters if isinstance(each.default, bool)} <= set(flags_of(entry)), (
                    name
                )


def test_what_other_code_accepts_is_its_own_decision() -> None:
    class Theirs:
        def __init__(self, shown: bool = False) -> None:
            self.shown = shown

    assert build_object(Theirs, "thing", {"shown": "no"}).shown == "no"


def test_a_flag_that_may_be_more_takes_that_too() -> None:
    from footplate.optim import OptimWrapper

    check_arguments(OptimWrapper, "wrapper", {"optimizer": None, "compile": {"mode": "default"}})


class Measured:
    """Takes numbers of several kinds."""

    def __init__(self, count: int = 1, share: float = 0.5, limit: float | None = None, size: int | str = 1) -> None:
        """Does nothing."""


Measured.__module__ = "footplate.made_for_this_test"

NUMBERS = [
    ("count", True, '"count" must be a whole number'),
    ("count", 1.5, '"count" must be a whole number'),
    ("count", math.inf, '"count" must be a whole number'),
    ("share", math.nan, '"share" must be a number'),
    ("share", "0.5", '"share" must be a number'),
    ("limit", False, '"limit" must be a number or None'),
    ("size", True, '"size" must be a whole number or a string'),
]


@pytest.mark.parametrize(("key", "value", "message"), NUMBERS)
def test_what_no_number_can_be_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_numbers(Measured, {key: value})
    assert (caught.value.message, caught.value.key) == (message, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [("count", 2.0), ("count", [1]), ("share", 1), ("share", math.inf), ("limit", None), ("size", "large")],
)
def test_a_number_and_what_is_none_at_all_pass(key: str, value: Any) -> None:
    check_numbers(Measured, {key: value})
