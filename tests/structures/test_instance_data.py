from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.structures import InstanceData


def instances() -> InstanceData:
    return InstanceData(
        metainfo={"img_path": "a.png"},
        bboxes=torch.arange(12.0).view(3, 4),
        labels=np.array([7, 8, 9]),
        names=["x", "y", "z"],
        word="abc",
    )


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (1, [1]),
        (-1, [2]),
        (np.int64(1), [1]),
        (slice(0, 2), [0, 1]),
        ([2, 0], [2, 0]),
        ([True, False, True], [0, 2]),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([False, True, False]), [1]),
        (np.array([2]), [2]),
        (np.array([False, False, False]), []),
        ([], []),
    ],
)
def test_every_field_is_indexed_at_once(index: Any, kept: list[int]) -> None:
    found = instances()[index]
    assert torch.equal(found.bboxes, torch.arange(12.0).view(3, 4)[kept])
    assert found.labels.tolist() == [7 + at for at in kept]
    assert found.names == ["xyz"[at] for at in kept]
    assert found.word == "".join("abc"[at] for at in kept)
    assert (len(found), found.img_path) == (len(kept), "a.png")


def test_a_string_asks_for_a_field() -> None:
    assert instances()["names"] == ["x", "y", "z"]


def test_positions_outside_are_refused() -> None:
    with pytest.raises(IndexError, match="3 instances"):
        _ = instances()[3]


@pytest.mark.parametrize("index", [[True, False], torch.zeros(2, 2)])
def test_unfit_choices_are_refused(index: Any) -> None:
    with pytest.raises(ArgumentError):
        _ = instances()[index]


def test_fields_have_one_length() -> None:
    found = instances()
    with pytest.raises(ArgumentError, match="the field 'scores' has length 2, 'bboxes' has 3"):
        found.scores = torch.zeros(2)
    with pytest.raises(ArgumentError, match="has no length"):
        found.scores = 3
    only = InstanceData(scores=torch.zeros(2))
    only.scores = torch.zeros(5)
    assert len(only) == 5


def test_cat_joins_every_kind_of_field() -> None:
    found = InstanceData.cat([instances(), instances()[:1]])
    assert len(found) == 4
    assert found.bboxes[3].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found.labels.tolist() == [7, 8, 9, 7]
    assert (found.names, found.word, found.img_path) == (["x", "y", "z", "x"], "abca", "a.png")


def test_cat_joins_fields_that_can_join_themselves() -> None:
    inner = [InstanceData(inner=InstanceData(a=[1])), InstanceData(inner=InstanceData(a=[2]))]
    assert InstanceData.cat(inner).inner.a == [1, 2]


@pytest.mark.parametrize(
    ("several", "message"),
    [
        ([], "no instances"),
        ([InstanceData(a=[1]), InstanceData(b=[1])], "different fields"),
        ([InstanceData(a={1}), InstanceData(a={2})], "of type set cannot be joined"),
    ],
)
def test_cat_refuses(several: list[InstanceData], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        InstanceData.cat(several)


def test_no_instances() -> None:
    assert len(InstanceData()) == 0
    assert len(InstanceData(bboxes=torch.zeros(0, 4), names=[])[[]]) == 0
