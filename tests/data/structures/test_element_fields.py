import copy
import pickle
from typing import Any

import pytest

from footplate.data.structures import BaseDataElement
from footplate.errors import ArgumentError


class Named(BaseDataElement):
    """Stores `boxes` as `_boxes`, behind a property that checks its type."""

    @property
    def boxes(self) -> Any:
        return self._boxes

    @boxes.setter
    def boxes(self, value: Any) -> None:
        self.set_field(value, "_boxes", dtype=(list, tuple))

    @boxes.deleter
    def boxes(self) -> None:
        del self._boxes


def test_names_are_either_data_or_metainfo() -> None:
    element = BaseDataElement(metainfo={"path": "a.png"})
    element.score = 0.5
    with pytest.raises(ArgumentError, match="'path' is already a metainfo field"):
        element.path = "b.png"
    with pytest.raises(ArgumentError, match="'score' is already a data field"):
        element.set_metainfo({"score": 0.5})
    assert (element.keys(), element.metainfo_keys()) == (["score"], ["path"])
    assert (element.values(), element.metainfo_values()) == ([0.5], ["a.png"])
    assert (list(element.items()), list(element.metainfo_items())) == ([("score", 0.5)], [("path", "a.png")])


def test_property_names_its_field_and_checks_the_type() -> None:
    element = Named()
    element.boxes = [1, 2]
    assert (element.keys(), element.get("boxes"), "boxes" in element) == (["boxes"], [1, 2], True)
    with pytest.raises(ArgumentError, match="the field '_boxes' must be of type list or tuple, not int"):
        element.boxes = 3
    assert element.pop("boxes") == [1, 2]
    assert "boxes" not in element


def test_get_and_pop_work_for_data_and_metainfo() -> None:
    element = BaseDataElement(metainfo={"path": "a.png"})
    element.score = 0.5
    assert (element.get("path"), element.get("score"), element.get("absent", 3)) == ("a.png", 0.5, 3)
    assert (element.pop("path"), element.pop("score"), element.pop("absent", 3)) == ("a.png", 0.5, 3)
    assert (element.keys(), element.metainfo_keys()) == ([], [])
    with pytest.raises(KeyError, match="no field 'score'"):
        element.pop("score")
    with pytest.raises(AttributeError, match="BaseDataElement has no field 'score'"):
        _ = element.score


def test_metainfo_is_returned_as_a_copy() -> None:
    element = BaseDataElement(metainfo={"path": "a.png"})
    element.metainfo["path"] = "b.png"
    assert element.path == "a.png"


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_do_not_share_fields_with_the_original(make_copy: Any) -> None:
    element = BaseDataElement(metainfo={"path": "a.png"})
    element.scores = [0.5]
    made = make_copy(element)
    assert (made.metainfo, made.scores) == ({"path": "a.png"}, [0.5])
    made.set_metainfo({"path": "b.png"})
    made.score = 1
    assert (element.path, element.keys()) == ("a.png", ["scores"])
