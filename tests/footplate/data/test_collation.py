from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from footplate.data import default_collate, pseudo_collate
from footplate.data.data_element import BaseDataElement
from footplate.errors import DataError


class Pair(NamedTuple):
    first: Any
    second: Any


def test_pseudo_collate_does_not_stack() -> None:
    elements = [BaseDataElement(a=1), BaseDataElement(a=2)]
    samples = [
        {"inputs": torch.zeros(2), "sample": elements[0], "inner": {"a": 1}, "pair": Pair(1, "x")},
        {"inputs": torch.zeros(3), "sample": elements[1], "inner": {"a": 2}, "pair": Pair(2, "y")},
    ]
    batch = pseudo_collate(samples)
    assert [each.shape for each in batch["inputs"]] == [(2,), (3,)]
    assert batch["sample"] == elements
    assert batch["inner"] == {"a": [1, 2]}
    assert batch["pair"] == Pair([1, 2], ["x", "y"])
    assert pseudo_collate([(1, [2]), (3, [4])]) == [[1, 3], [[2, 4]]]


def test_default_collate_stacks_tensors_arrays_and_numbers() -> None:
    elements = [BaseDataElement(a=1), BaseDataElement(a=2)]
    batch = default_collate(
        [
            {"a": torch.zeros(2), "b": np.ones(3), "c": 1, "d": "x", "e": elements[0], "f": (1.0, b"1")},
            {"a": torch.ones(2), "b": np.ones(3), "c": 2, "d": "y", "e": elements[1], "f": (2.0, b"2")},
        ]
    )
    assert batch["a"].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert batch["b"].shape == (2, 3)
    assert batch["c"].tolist() == [1, 2]
    assert (batch["d"], batch["e"]) == (["x", "y"], elements)
    assert (batch["f"][0].tolist(), batch["f"][1]) == ([1.0, 2.0], [b"1", b"2"])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([torch.zeros(2, 3), torch.zeros(2, 4)], r"different shapes.*\n.*\[\(2, 3\), \(2, 4\)\]\n.*pseudo_collate"),
        ([{"a": 1}, {"a": 1, "b": 2}], r"different keys\n.*\['b'\]"),
        ([{"a": 1}, {"a": None}], "values cannot be stacked: .*NoneType"),
    ],
)
def test_samples_that_cannot_be_collated_are_refused(samples: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        default_collate(samples)
