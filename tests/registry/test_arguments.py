import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest

from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.registry import ROOT_REGISTRIES, Registry
from footplate.registry.arguments import check_numbers, flags_of, keywords_of
from footplate.registry.build import build_object, check_arguments


class Base:
    def __init__(self, size: int, *, colour: str = "red") -> None:
        self.size, self.colour = size, colour


class Inherits(Base):
    pass


class Forwards(Inherits):
    def __init__(self, glaze: str = "none", **rest: Any) -> None:
        super().__init__(**rest)
        self.glaze = glaze


class Twice(Forwards):
    def __init__(self, count: int = 2, **more: Any) -> None:
        super(Twice, self).__init__(glaze="much", **more)  # noqa: UP008 - the form in older code
        self.count = count


class Inspects(Base):
    def __init__(self, **rest: Any) -> None:
        self.glaze = rest.pop("glaze", "none")
        super().__init__(**rest)


class Keeps(Base):
    def __init__(self, **rest: Any) -> None:
        super().__init__(2)
        self.rest = rest


class Other(Base):
    def __init__(self, **rest: Any) -> None:
        super().__init__(2)
        self.other = dict(**rest)


class ForwardsToOther(Other):
    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)


class ForwardsToObject:
    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Base, ["size", "colour"]),
        (Inherits, ["size", "colour"]),
        (Forwards, ["glaze", "size", "colour"]),
        (Twice, ["count", "glaze", "size", "colour"]),
        (Inspects, None),
        (Keeps, None),
        (Other, None),
        (ForwardsToOther, None),
        (ForwardsToObject, None),
        (type("Made", (Base,), {"__init__": lambda self, **rest: None}), None),
    ],
)
def test_keywords_include_bases_if_kwargs_are_only_forwarded(kind: type, names: list[str] | None) -> None:
    assert keywords_of(kind, inspect.signature(kind).parameters) == names


def test_function_with_kwargs_takes_any_keyword() -> None:
    def make(side: int, **rest: Any) -> None: ...

    assert keywords_of(make, inspect.signature(make).parameters) is None


def test_wrong_base_class_argument_is_found_by_check() -> None:
    registry = Registry("shape", scope="main", noun="form")
    registry.register_module(module=Twice)
    registry.register_module(module=Inspects)
    registry.check({"type": "Inspects", "glze": "much"})
    registry.check({"type": "Twice", "size": 3, "glaze": "much"})
    with pytest.raises(BuildError, match="form 'Twice' takes no argument 'glze'") as caught:
        registry.check({"type": "Twice", "size": 3, "glze": "much"})
    assert (caught.value.key, caught.value.suggestion) == ("glze", "glaze")


def flags() -> Iterator[Any]:
    for name, registry in ROOT_REGISTRIES.items():
        for kind, entry in sorted(registry.module_dict.items()):
            for flag in flags_of(entry):
                if name != "RUNNERS":
                    yield pytest.param(registry, entry, flag, id=f"{kind}.{flag}")


@pytest.mark.parametrize(("registry", "entry", "flag"), [*flags()])
def test_non_bool_flag_is_rejected(registry: Registry, entry: Any, flag: str) -> None:
    required = {
        name: None
        for name, each in inspect.signature(entry).parameters.items()
        if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }

    for use in (check_arguments, build_object):
        with pytest.raises(FootplateError, match=f"{flag} must be True or False|takes no argument '{flag}'") as caught:
            use(entry, registry.noun, {**required, flag: "no"})
        assert caught.value.key == flag


def test_flags_are_found_in_every_registry() -> None:
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


def test_every_bool_default_of_footplate_is_a_flag() -> None:
    """No flag escapes the check for lack of an annotation."""
    for registry in ROOT_REGISTRIES.values():
        for name, entry in registry.module_dict.items():
            if entry.__module__.startswith("footplate."):
                parameters = inspect.signature(entry).parameters.values()
                assert {each.name for each in parameters if isinstance(each.default, bool)} <= set(flags_of(entry)), (
                    name
                )


def test_flags_of_other_packages_are_not_checked() -> None:
    class Theirs:
        def __init__(self, shown: bool = False) -> None:
            self.shown = shown

    assert build_object(Theirs, "thing", {"shown": "no"}).shown == "no"


def test_flag_with_union_annotation_takes_other_types() -> None:
    from footplate.optim import OptimWrapper

    check_arguments(OptimWrapper, "wrapper", {"optimizer": None, "compile": {"mode": "default"}})


class TakesNumbers:
    def __init__(self, count: int = 1, share: float = 0.5, limit: float | None = None, size: int | str = 1) -> None:
        pass


TakesNumbers.__module__ = "footplate.made_for_this_test"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", True, '"count" must be a whole number'),
        ("count", 1.5, '"count" must be a whole number'),
        ("count", math.inf, '"count" must be a whole number'),
        ("share", math.nan, '"share" must be a number'),
        ("share", "0.5", '"share" must be a number'),
        ("limit", False, '"limit" must be a number or None'),
        ("size", True, '"size" must be a whole number or a string'),
    ],
)
def test_value_that_cannot_be_the_annotated_number_is_rejected(key: str, value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_numbers(TakesNumbers, {key: value})
    assert (caught.value.message, caught.value.key) == (message, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [("count", 2.0), ("count", [1]), ("share", 1), ("share", math.inf), ("limit", None), ("size", "large")],
)
def test_check_numbers_accepts_numbers_and_other_types(key: str, value: Any) -> None:
    check_numbers(TakesNumbers, {key: value})
