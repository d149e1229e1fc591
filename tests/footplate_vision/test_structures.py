from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate_vision.structures import InstanceData, PixelData


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
        (slice(0, 2), [0, 1]),
        ([2, 0], [2, 0]),
        ([True, False, True], [0, 2]),
        (torch.tensor([False, True, False]), [1]),
        (np.array([1, 1]), [1, 1]),
        ([], []),
    ],
)
def test_indexing_selects_from_all_fields(index: Any, kept: list[int]) -> None:
    found = instances()[index]
    assert torch.equal(found.bboxes, torch.arange(12.0).view(3, 4)[kept])
    assert found.labels.tolist() == [7 + at for at in kept]
    assert found.names == ["xyz"[at] for at in kept]
    assert found.word == "".join("abc"[at] for at in kept)
    assert (len(found), found.img_path) == (len(kept), "a.png")


class Polygons:
    """Accepts slices only, like the fields of many projects."""

    def __init__(self, corners: list[int]) -> None:
        self.corners = corners

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, index: slice) -> "Polygons":
        return Polygons(self.corners[index])

    @staticmethod
    def cat(several: list["Polygons"]) -> "Polygons":
        return Polygons([corner for each in several for corner in each.corners])


def test_fields_of_own_classes_only_need_slices_and_cat() -> None:
    found = InstanceData(polygons=Polygons([3, 4, 5]))
    assert found[torch.tensor([2, 0])].polygons.corners == [5, 3]
    assert found[[False, True, False]].polygons.corners == [4]
    assert found[[]].polygons.corners == []
    assert found[[0, -1]].polygons.corners == [3, 5]
    with pytest.raises(IndexError, match="out of range"):
        _ = found[[7]]
    assert InstanceData.cat([found, found[1]]).polygons.corners == [3, 4, 5, 4]


def test_fields_must_have_the_same_length() -> None:
    found = instances()
    with pytest.raises(ArgumentError, match="but 'scores' has 2 and 'bboxes' has 3"):
        found.scores = torch.zeros(2)
    with pytest.raises(ArgumentError, match="InstanceData field 'scores' must have a length"):
        found.scores = 3
    only = InstanceData(scores=torch.zeros(2))
    only.scores = torch.zeros(5)
    assert len(only) == 5


def test_set_field_checks_no_shapes_as_in_mmengine() -> None:
    instances = InstanceData(scores=torch.zeros(3))
    instances.set_field(torch.zeros(2), "labels")
    pixels = PixelData(mask=torch.zeros(4, 4))
    pixels.set_field([torch.zeros(2, 2)], "heatmaps")
    assert (instances.keys(), pixels.keys()) == (["scores", "labels"], ["mask", "heatmaps"])


def test_cat_concatenates_tensors_arrays_lists_and_strings() -> None:
    found = InstanceData.cat([instances(), instances()[:1]])
    assert len(found) == 4
    assert found.bboxes[3].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found.labels.tolist() == [7, 8, 9, 7]
    assert (found.names, found.word, found.img_path) == (["x", "y", "z", "x"], "abca", "a.png")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ((slice(1, 3), slice(None, 2)), [[5, 6], [10, 11]]),
        ((1, 4), [[9]]),
    ],
)
def test_indexing_crops_all_fields(index: Any, expected: list[list[int]]) -> None:
    found = PixelData(metainfo={"a": 1}, data=torch.arange(20).view(4, 5), logits=np.arange(40).reshape(2, 4, 5))
    part = found[index]
    assert part.data[0].tolist() == expected
    assert part.logits[0].tolist() == expected
    assert (part.a, part.shape) == (1, (len(expected), len(expected[0])))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4, 6), r"but 'other' has \(4, 6\) and 'data' has \(4, 5\)"),
        (torch.zeros(1, 1, 4, 5), r"\(C, H, W\) or \(H, W\)"),
    ],
)
def test_fields_with_a_different_shape_are_an_error(value: Any, message: str) -> None:
    found = PixelData(data=torch.zeros(4, 5))
    with pytest.raises(ArgumentError, match=message):
        found.other = value
