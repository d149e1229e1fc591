import functools
import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, ConfigDict, LazyObject
from footplate.errors import ArgumentError, BuildError, Origin
from footplate.registry import ROOT_REGISTRIES, Registry
from footplate.registry.arguments import (
    arguments_of,
    check_annotations,
)


class Traced(dict[str, Any]):
    _origins = {None: Origin("a.py", 1), "type": Origin("a.py", 2), "sid": Origin("b.py", 9), "side": Origin("b.py", 5)}


class Square:
    def __init__(self, side: int, colour: str = "red") -> None:
        if side < 0:
            raise ArgumentError("a side is positive", key="side", found=side)
        if side == 0:
            raise TypeError("an error of the constructor's own")
        self.side, self.colour = side, colour


class Tile(Square):
    def __init__(self, glaze: str = "none", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.glaze = glaze


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape", scope="main", noun="form")
    for each in (Square, Tile, OrderedDict):
        registry.register_module(module=each)
    return registry


@pytest.mark.parametrize("kind", ["Square", Square, LazyObject(f"{__name__}.Square")])
def test_type_may_be_name_class_or_lazy_object(shapes: Registry, kind: Any) -> None:
    cfg = {"type": kind, "side": 2}
    built = shapes.build(cfg)
    assert (type(built), built.side, built.colour) == (Square, 2, "red")
    assert cfg == {"type": kind, "side": 2}


def test_classes_get_the_objects_of_lazy_names(shapes: Registry) -> None:
    lazy, plain = LazyObject(f"{__name__}.Square"), {"type": "Tile"}
    cfg = ConfigDict(type="Square", side=2, colour={"parts": [{"type": lazy}, 3], "pair": (lazy,), "plain": plain})
    colour = shapes.build(cfg).colour
    assert colour == {"parts": [{"type": Square}, 3], "pair": (Square,), "plain": {"type": "Tile"}}
    assert colour.plain is cfg.colour.plain
    assert cfg.colour.parts[0]["type"] is lazy


def test_unknown_argument_reports_location_and_suggestion(shapes: Registry) -> None:
    with pytest.raises(TypeError) as caught:
        shapes.build(Traced(type="Square", sid=3))
    assert str(caught.value).split("\n") == [
        "form 'Square' takes no argument 'sid'",
        "  at b.py:9, key sid",
        "  found: 3",
        "  did you mean 'side'?",
    ]


@pytest.mark.parametrize("kind", ["Square", "Tile"])
def test_argument_of_the_base_for_another_type_is_explained(shapes: Registry, current_folder: Path, kind: str) -> None:
    """`Tile` passes the argument on, so that its base class raises the error."""
    Path("base.py").write_text("model = dict(type='Other', side=1, widths=(8, 16))\n")
    Path("child.py").write_text(f"_base_ = 'base.py'\nmodel = dict(\n    type='{kind}')\n")
    with pytest.raises(BuildError) as caught:
        shapes.build(Config.fromfile("child.py").model)
    assert str(caught.value).splitlines()[1:] == [
        "  at child.py:3, key widths",
        "  found: (8, 16)",
        "  base.py:1 sets it for another type. To drop the base's settings, add _delete_=True.",
    ]


class Base:
    def __init__(self, size: int, *, colour: str = "red") -> None:
        self.size, self.colour = size, colour


class Glazed(Base):
    def __init__(self, glaze: str = "none", **settings: Any) -> None:
        super().__init__(**settings)
        self.glaze = glaze


class Keeps(Base):
    def __init__(self, **rest: Any) -> None:
        super().__init__(2)
        self.rest = rest


class UserGlazed(Glazed):
    def __init__(self, count: int = 2, **settings: Any) -> None:
        super().__init__(**settings)
        self.count = count


for _kind in (Glazed, Keeps):
    _kind.__module__ = "footplate.example"


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Base, ["size", "colour"]), (Glazed, ["glaze", "size", "colour"]), (Keeps, None), (UserGlazed, None)],
)
def test_keywords_include_those_of_bases_in_footplate(kind: type, names: list[str] | None) -> None:
    arguments = arguments_of(kind)
    assert (None if arguments.accepts_any else list(arguments.types)) == names


def test_keyword_that_a_base_class_does_not_accept_is_reported() -> None:
    registry = Registry("shape", scope="main", noun="form")
    registry.register_module(module=UserGlazed)
    registry.register_module(module=Glazed)
    registry.check({"type": "UserGlazed", "glze": "much"})
    for call in (registry.build, registry.check):
        with pytest.raises(BuildError, match="form 'Glazed' takes no argument 'glze'") as caught:
            call({"type": "Glazed", "size": 3, "glze": "much"})
        assert (caught.value.key, caught.value.suggestion) == ("glze", "glaze")
    with pytest.raises(BuildError, match="form 'UserGlazed' takes no argument 'glze'"):
        registry.build(Traced(type="UserGlazed", size=3, glze="much"))


def flags_of(entry: Any) -> list[str]:
    return [name for name, allowed in arguments_of(entry).types.items() if bool in allowed]


def test_flags_of_all_classes_must_be_bools() -> None:
    for name in ("HOOKS", "LOOPS", "DATASETS", "TRANSFORMS", "MODELS", "OPTIMIZERS", "OPTIM_WRAPPERS", "METRICS"):
        entries = ROOT_REGISTRIES[name].module_dict.values()
        flags = [(entry, flag) for entry in entries for flag in flags_of(entry)]
        assert flags, name
        for entry, flag in flags:
            with pytest.raises(ArgumentError, match=f"'{flag}' must be True(,| or) "):
                check_annotations(entry, {flag: "no"}, source=None)


def test_a_decorator_may_supply_arguments_of_a_constructor(shapes: Registry) -> None:
    def with_side(constructor: Callable[..., None]) -> Callable[..., None]:
        return functools.wraps(constructor)(lambda self, **kwargs: constructor(self, 3, **kwargs))

    class Stamp:
        @with_side
        def __init__(self, side: int, colour: str = "red") -> None:
            self.side, self.colour = side, colour

    shapes.register_module(module=Stamp)
    assert shapes.build({"type": "Stamp", "colour": "blue"}).side == 3
    with pytest.raises(BuildError, match="takes no argument 'color'"):
        shapes.build({"type": "Stamp", "color": "blue"})


class TakesNumbers:
    def __init__(self, count: int = 1, share: float = 0.5, limit: float | None = None, size: int | str = 1) -> None:
        self.given = {"count": count, "share": share, "limit": limit, "size": size}


TakesNumbers.__module__ = "footplate.made_for_this_test"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", 1.5, "'count' must be an integer"),
        ("share", math.nan, "'share' must be a number"),
        ("share", "0.5", "'share' must be a number"),
        ("limit", False, "'limit' must be a number or None"),
    ],
)
def test_value_that_cannot_be_the_annotated_number_is_rejected(key: str, value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_annotations(TakesNumbers, {key: value}, source=None)
    assert (caught.value.message, caught.value.key) == (message, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [("count", 2.0), ("count", [1]), ("share", 1), ("share", math.inf), ("limit", None), ("size", "large")],
)
def test_numbers_and_values_of_other_types_are_accepted(key: str, value: Any) -> None:
    assert Registry("number").build({"type": TakesNumbers, key: value}).given[key] == value
