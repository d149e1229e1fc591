import inspect
from typing import Any

import pytest

from footplate.errors import BuildError
from footplate.registry import Registry
from footplate.registry.handing_on import keywords_of


class Base:
    def __init__(self, size: int, *, colour: str = "red") -> None:
        self.size, self.colour = size, colour


class Silent(Base):
    pass


class HandsOn(Silent):
    def __init__(self, glaze: str = "none", **rest: Any) -> None:
        super().__init__(**rest)
        self.glaze = glaze


class Twice(HandsOn):
    def __init__(self, count: int = 2, **more: Any) -> None:
        super(Twice, self).__init__(glaze="much", **more)  # noqa: UP008 - as older code writes it
        self.count = count


class LooksInto(Base):
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


class AboveOther(Other):
    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)


class EndsOpen:
    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Base, ["size", "colour"]),
        (Silent, ["size", "colour"]),
        (HandsOn, ["glaze", "size", "colour"]),
        (Twice, ["count", "glaze", "size", "colour"]),
        (LooksInto, None),
        (Keeps, None),
        (Other, None),
        (AboveOther, None),
        (EndsOpen, None),
        (type("Made", (Base,), {"__init__": lambda self, **rest: None}), None),
    ],
)
def test_what_a_class_takes_is_known_where_it_only_hands_on(kind: type, names: list[str] | None) -> None:
    assert keywords_of(kind, inspect.signature(kind).parameters) == names


def test_a_function_may_take_any() -> None:
    def make(side: int, **rest: Any) -> None: ...

    assert keywords_of(make, inspect.signature(make).parameters) is None


def test_a_wrong_argument_for_a_base_is_found_without_a_call() -> None:
    registry = Registry("shape", scope="main", noun="form")
    registry.register_module(module=Twice)
    registry.register_module(module=LooksInto)
    registry.check({"type": "LooksInto", "glze": "much"})
    registry.check({"type": "Twice", "size": 3, "glaze": "much"})
    with pytest.raises(BuildError, match="form 'Twice' takes no argument 'glze'") as caught:
        registry.check({"type": "Twice", "size": 3, "glze": "much"})
    assert (caught.value.key, caught.value.suggestion) == ("glze", "glaze")
