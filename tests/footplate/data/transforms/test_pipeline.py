from typing import Any

import numpy as np
import pytest

from footplate.data import Compose, pseudo_collate
from footplate.errors import ArgumentError, BuildError, DataError, UnknownNameError
from footplate.registry import TRANSFORMS


class AddForTest:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, data: int) -> int:
        return data + self.amount


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
def test_transforms_are_applied_in_order(transforms: Any, expected: int) -> None:
    assert Compose(transforms)(3) == expected


def test_no_transform_is_applied_to_a_dropped_sample() -> None:
    seen: list[int] = []
    assert Compose([lambda data: None, seen.append])(3) is None
    assert seen == []


@pytest.mark.parametrize(
    ("transforms", "kind", "message"),
    [
        ([AddForTest(1), 3], ArgumentError, r"a transform must be a function or a dict.*\n  key \[1\]\n  found: 3"),
        ([{"type": "AddForTst"}], UnknownNameError, r"key \[0\].type\n.*'AddForTest'"),
        ([{"type": "AddForTest", "amout": 1}], BuildError, r"key \[0\].amout\n.*\n.*'amount'"),
    ],
)
def test_invalid_transforms_are_reported_with_their_index(transforms: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Compose(transforms)


def build_views(transforms: Any) -> Any:
    return TRANSFORMS.build({"type": "TestTimeAug", "transforms": transforms})


def test_every_combination_makes_a_view() -> None:
    sizes = [{"type": "Resize", "scale_factor": factor} for factor in (1, 2)]
    flips = [{"type": "RandomFlip", "prob": prob} for prob in (0.0, 1.0)]
    image = np.arange(12, dtype=np.uint8).reshape(2, 6)
    views = build_views([sizes, flips, [{"type": "PackSegInputs"}]])({"img": image})
    assert [tuple(each.shape) for each in views["inputs"]] == [(1, 2, 6), (1, 2, 6), (1, 4, 12), (1, 4, 12)]
    assert [each.flip for each in views["data_samples"]] == [False, True, False, True]
    assert views["inputs"][1][0].tolist() == image[:, ::-1].tolist()
    batch = pseudo_collate([views, views, views])
    assert (len(batch["inputs"]), len(batch["inputs"][0])) == (4, 3)


@pytest.mark.parametrize("transforms", [[], [[]], [{"type": "RandomFlip"}]])
def test_transforms_must_be_a_list_of_lists(transforms: Any) -> None:
    with pytest.raises(ArgumentError, match="a non-empty list of non-empty lists"):
        build_views(transforms)


def test_a_dropped_view_is_an_error() -> None:
    with pytest.raises(DataError, match="every view of a sample must be a dict"):
        build_views([[lambda sample: None, lambda sample: sample]])({"x": 1})
