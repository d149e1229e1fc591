import functools
import inspect
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest

from footplate.config import ConfigDict, LazyObject
from footplate.errors import ArgumentError, BuildError, FootplateError, Origin
from footplate.registry import DATASETS, ROOT_REGISTRIES, TRANSFORMS, Registry
from footplate.registry.arguments import (
    argument_types,
    build_object,
    check_annotations,
    check_arguments,
    keywords_of,
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
    assert cfg.colour.parts[0].type is lazy


def test_config_values_override_caller_arguments(shapes: Registry) -> None:
    built = shapes.build({"type": "Square", "side": 2}, side=7, colour="blue")
    assert (built.side, built.colour) == (2, "blue")
    assert shapes.build({"type": "Square"}, 5).side == 5
    built = shapes.build({"side": 3}, default_args={"type": "Square", "side": 1, "colour": "grey"})
    assert (built.side, built.colour) == (3, "grey")


@pytest.mark.parametrize("cfg", [{"side": 2}, "Square", None, Square(1), [("type", "Square")]])
def test_config_without_type_is_rejected(shapes: Registry, cfg: Any) -> None:
    with pytest.raises(BuildError, match="the config of a form must be a dict with the key 'type'") as caught:
        shapes.build(cfg)
    assert caught.value.found is cfg


@pytest.mark.parametrize("kind", [3, None, {"type": "Square"}])
def test_invalid_type_value_is_rejected(shapes: Registry, kind: Any) -> None:
    with pytest.raises(BuildError, match="the type of a form must be a name or a class") as caught:
        shapes.build(Traced(type=kind))
    assert caught.value.origin == Origin("a.py", 2)


def test_unknown_argument_reports_location_and_suggestion(shapes: Registry) -> None:
    with pytest.raises(TypeError) as caught:
        shapes.build(Traced(type="Square", sid=3))
    assert str(caught.value).split("\n") == [
        "form 'Square' takes no argument 'sid'",
        "  at b.py:9, key sid",
        "  found: 3",
        "  did you mean 'side'?",
    ]


def test_unknown_argument_without_suggestion_lists_all_arguments(shapes: Registry) -> None:
    with pytest.raises(BuildError) as caught:
        shapes.build({"type": "Square", "quality": 3})
    assert caught.value.suggestion is None
    assert caught.value.notes == ("it takes: side, colour",)


def test_argument_rejected_by_base_class_is_reported(shapes: Registry) -> None:
    with pytest.raises(BuildError, match="form 'Tile' takes no argument 'sid'") as caught:
        shapes.build(Traced(type="Tile", side=2, sid=3))
    assert (caught.value.suggestion, caught.value.origin) == ("side", Origin("b.py", 9))
    assert shapes.build({"type": "Tile", "side": 2, "colour": "blue"}).colour == "blue"


def test_missing_argument_reports_location_of_type(shapes: Registry) -> None:
    with pytest.raises(BuildError, match="form 'Square' needs the argument 'side'") as caught:
        shapes.build(Traced(type="Square"))
    assert (caught.value.origin, caught.value.key) == (Origin("a.py", 2), "side")


def test_constructor_error_gets_location_of_its_key(shapes: Registry) -> None:
    with pytest.raises(ArgumentError, match="a side is positive") as caught:
        shapes.build(Traced(type="Square", side=-2))
    assert (caught.value.origin, caught.value.key, caught.value.found) == (Origin("b.py", 5), "side", -2)


def test_error_about_nested_key_gets_its_location(shapes: Registry) -> None:
    @shapes.register_module()
    def striped(stripes: dict[str, int]) -> Square:
        raise ArgumentError("too many", key="stripes.side")

    with pytest.raises(ArgumentError, match="too many") as caught:
        shapes.build(Traced(type="striped", stripes=Traced(side=3)))
    assert (caught.value.origin, caught.value.key) == (Origin("b.py", 5), "stripes.side")


def test_constructor_type_error_is_not_wrapped(shapes: Registry) -> None:
    with pytest.raises(TypeError, match="an error of the constructor's own") as caught:
        shapes.build({"type": "Square", "side": 0})
    assert type(caught.value) is TypeError


def test_class_without_signature_builds(shapes: Registry) -> None:
    shapes.register_module(module=dict, name="Plain")
    assert shapes.build({"type": "Plain", "a": 1}) == {"a": 1}
    assert shapes.build({"type": "OrderedDict", "a": 1}) == OrderedDict(a=1)


def test_partial_function_builds(shapes: Registry) -> None:
    shapes.register_module(module=functools.partial(Square, side=4), name="Four")
    assert shapes.build({"type": "Four"}).side == 4


def test_custom_build_func() -> None:
    def build(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
        return registry.build_entry({**cfg, "side": cfg["side"] * 10}, *args, **kwargs)

    root = Registry("shape", scope="main", build_func=build)
    child = Registry("shape", parent=root, scope="child")
    for each in (root, child):
        each.register_module(module=Square)
        assert each.build({"type": "Square", "side": 2}).side == 20


class _RaisesTypeError:
    def __init__(self, widths: list[int]) -> None:
        self.total = sum(widths)


def test_constructor_error_from_config_file_reports_location() -> None:
    source = Traced({"widths": 3})
    source._origins = {"type": Origin("a.py", 7)}
    with pytest.raises(BuildError, match="cannot be built: TypeError: 'int' object is not iterable") as caught:
        build_object(_RaisesTypeError, "shape", source, source=source)
    assert caught.value.origin == Origin("a.py", 7)


def test_constructor_error_from_code_is_not_wrapped() -> None:
    with pytest.raises(TypeError, match="^'int' object is not iterable$"):
        build_object(_RaisesTypeError, "shape", {"widths": 3})


@pytest.mark.parametrize(
    ("registry", "cfg", "expected"),
    [
        (TRANSFORMS, {"type": "Resize", "img_scale": (4, 4)}, "  did you mean 'scale'?"),
        (TRANSFORMS, {"type": "RandomFlip", "flip_ratio": 0.5}, "  did you mean 'prob'?"),
        (
            DATASETS,
            {"type": "CustomDataset", "img_dir": "a"},
            "  for images and label maps, set type='BaseSegDataset', data_pr",
        ),
        (
            DATASETS,
            {"type": "BaseSegDataset", "ann_dir": "a"},
            "  for images and label maps, set type='BaseSegDataset', data_pr",
        ),
        (DATASETS, {"type": "BaseDataset", "img_scale": 1}, "  it takes: ann_file, "),
        (
            DATASETS,
            {"type": "CocoDataset", "classes": ["a"]},
            "  In second-generation configs, set metainfo=dict(classes=[...]).",
        ),
        (
            DATASETS,
            {"type": "CocoDataset", "img_prefix": "a"},
            "  In second-generation configs, set data_prefix=dict(img='...').",
        ),
        (TRANSFORMS, {"type": "Resize", "img_prefix": "a"}, "  it takes: scale, "),
    ],
)
def test_first_generation_arguments_get_hints(registry: Registry, cfg: dict[str, Any], expected: str) -> None:
    with pytest.raises(BuildError, match="takes no argument") as caught:
        registry.check(cfg)
    assert str(caught.value).split("\n")[-1].startswith(expected)


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


class SkipsForwards(Forwards):
    def __init__(self, **rest: Any) -> None:
        super(Forwards, self).__init__(**rest)  # the constructor of a class after `Forwards`


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
        (SkipsForwards, None),
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


def flags_of(entry: Any) -> list[str]:
    return [name for name, allowed in argument_types(entry).items() if bool in allowed]


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
        ("count", True, '"count" must be an integer'),
        ("count", 1.5, '"count" must be an integer'),
        ("count", math.inf, '"count" must be an integer'),
        ("share", math.nan, '"share" must be a number'),
        ("share", "0.5", '"share" must be a number'),
        ("limit", False, '"limit" must be a number or None'),
        ("size", True, '"size" must be an integer or a string'),
    ],
)
def test_value_that_cannot_be_the_annotated_number_is_rejected(key: str, value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_annotations(TakesNumbers, {key: value})
    assert (caught.value.message, caught.value.key) == (message, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [("count", 2.0), ("count", [1]), ("share", 1), ("share", math.inf), ("limit", None), ("size", "large")],
)
def test_check_annotations_accepts_numbers_and_other_types(key: str, value: Any) -> None:
    check_annotations(TakesNumbers, {key: value})
