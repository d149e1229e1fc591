"""Limits are read from unconditional checks, and from checks that leave out one value."""

from typing import Any

import pytest

from footplate.checks import check_choice, check_count, check_fraction, check_number
from footplate.tools.argument_limits import argument_limits

MOST = 7


class Base:
    def __init__(self, count: int, share: float) -> None:
        self.count = check_count("count", count, least=0, most=MOST)
        self.share = check_fraction("share", share)


class Derived(Base):
    def __init__(self, kind: str, every: int, size: int | None, rate: float, other: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.kind = check_choice("kind", kind, ("a", "b"))
        if every != -1:
            check_count("every", every)
        self.size = None if size is None else check_count("size", size)
        check_number("rate", rate, above=0, most=2)
        if kind == "a":
            check_count("other", other)
        for name, value in settings.items():
            check_count(name, value)


Base.__module__ = Derived.__module__ = Base.__init__.__module__ = Derived.__init__.__module__ = "footplate.example"


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("count", {"minimum": 0, "maximum": 7}),
        ("share", {"minimum": 0, "maximum": 1}),
        ("kind", {"anyOf": [{"enum": ["a", "b"]}, {"not": {"type": "string"}}]}),
        ("every", {"anyOf": [{"const": -1}, {"minimum": 1}]}),
        ("size", {"anyOf": [{"const": None}, {"minimum": 1}]}),
        ("rate", {"exclusiveMinimum": 0, "maximum": 2}),
        ("other", None),
    ],
)
def test_limit_of_an_argument(name: str, limits: dict[str, Any] | None) -> None:
    assert argument_limits(Derived).get(name) == limits
