import functools
from collections import OrderedDict
from typing import Any

import pytest

from footplate.errors import ArgumentError, BuildError, Origin
from footplate.registry import DATASETS, TRANSFORMS, Registry
from footplate.registry.build import build_object


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


class Lazy:
    def build(self) -> type:
        return Square


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape", scope="main", noun="form")
    for each in (Square, Tile, OrderedDict):
        registry.register_module(module=each)
    return registry


@pytest.mark.parametrize("kind", ["Square", Square, Lazy()])
def test_type_may_be_name_class_or_lazy_object(shapes: Registry, kind: Any) -> None:
    cfg = {"type": kind, "side": 2}
    built = shapes.build(cfg)
    assert (type(built), built.side, built.colour) == (Square, 2, "red")
    assert cfg == {"type": kind, "side": 2}


def test_config_values_override_caller_arguments(shapes: Registry) -> None:
    built = shapes.build({"type": "Square", "side": 2}, side=7, colour="blue")
    assert (built.side, built.colour) == (2, "blue")
    assert shapes.build({"type": "Square"}, 5).side == 5
    built = shapes.build({"side": 3}, default_args={"type": "Square", "side": 1, "colour": "grey"})
    assert (built.side, built.colour) == (3, "grey")


@pytest.mark.parametrize("cfg", [{"side": 2}, "Square", None, Square(1), [("type", "Square")]])
def test_config_without_type_is_rejected(shapes: Registry, cfg: Any) -> None:
    with pytest.raises(BuildError, match="a form is built from a dict with the key 'type'") as caught:
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
            "  in second-generation configs, set metainfo=dict(classes=[...])",
        ),
        (
            DATASETS,
            {"type": "CocoDataset", "img_prefix": "a"},
            "  in second-generation configs, set data_prefix=dict(img='...')",
        ),
        (TRANSFORMS, {"type": "Resize", "img_prefix": "a"}, "  it takes: scale, "),
    ],
)
def test_first_generation_arguments_get_hints(registry: Registry, cfg: dict[str, Any], expected: str) -> None:
    with pytest.raises(BuildError, match="takes no argument") as caught:
        registry.check(cfg)
    assert str(caught.value).split("\n")[-1].startswith(expected)
