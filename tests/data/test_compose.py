from typing import Any

import pytest

from footplate.data import Compose
from footplate.errors import ArgumentError, BuildError, UnknownNameError
from footplate.registry import TRANSFORMS


class AddForTest:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, data: int) -> int:
        return data + self.amount

    def __repr__(self) -> str:
        return f"Add({self.amount})"


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    TRANSFORMS.register_module(module=AddForTest, force=True)


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([], 3),
        (None, 3),
        (AddForTest(1), 4),
        ([{"type": "AddForTest", "amount": 2}, lambda data: data * 2], 10),
        (({"type": AddForTest, "amount": 5},), 8),
        ([{"type": "Compose", "transforms": [AddForTest(1), AddForTest(1)]}], 5),
    ],
)
def test_transforms_act_in_turn(transforms: Any, expected: int) -> None:
    assert Compose(transforms)(3) == expected


def test_nothing_acts_after_a_sample_was_given_up() -> None:
    seen: list[int] = []
    assert Compose([lambda data: None, seen.append])(3) is None
    assert seen == []


def test_it_prints_its_transforms() -> None:
    assert repr(Compose([AddForTest(1), AddForTest(2)])) == "Compose(\n    Add(1)\n    Add(2)\n)"


@pytest.mark.parametrize(
    ("transforms", "kind", "message"),
    [
        ([AddForTest(1), 3], ArgumentError, r"a transform is a function or a dict.*\n  key \[1\]\n  found: 3"),
        ([{"type": "AddForTst"}], UnknownNameError, r"key \[0\].type\n.*'AddForTest'"),
        ([{"type": "AddForTest", "amout": 1}], BuildError, r"key \[0\].amout\n.*\n.*'amount'"),
    ],
)
def test_unfit_transforms_are_named(transforms: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Compose(transforms)
