import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from footplate.data.data_element import BaseDataElement
from footplate.errors import ArgumentError
from footplate_vision.structures import PixelData


class Sample(BaseDataElement):
    @property
    def truth(self) -> PixelData:
        return self._truth  # type: ignore[no-any-return]

    @truth.setter
    def truth(self, value: PixelData) -> None:
        self.set_field(value, "_truth", dtype=PixelData)

    @truth.deleter
    def truth(self) -> None:
        del self._truth


def element() -> BaseDataElement:
    return BaseDataElement(metainfo={"img_path": "a.png", "scale": (2, 3)}, scores=torch.arange(3.0), note="x")


def test_data_and_metainfo_are_read_as_attributes() -> None:
    found = element()
    assert (found.img_path, found.note, found.scores.tolist()) == ("a.png", "x", [0.0, 1.0, 2.0])
    assert found.keys() == ["scores", "note"]
    assert found.metainfo_keys() == ["img_path", "scale"]
    assert found.all_keys() == ["img_path", "scale", "scores", "note"]
    assert dict(found.metainfo_items()) == found.metainfo == {"img_path": "a.png", "scale": (2, 3)}
    assert found.all_values()[:2] == ["a.png", (2, 3)]
    assert "img_path" in found
    assert "scores" in found
    assert "labels" not in found


@pytest.mark.parametrize(
    ("assign", "message"),
    [
        (lambda found: setattr(found, "img_path", "b.png"), "'img_path' is already a metainfo field"),
        (lambda found: found.set_metainfo({"scores": 1}), "'scores' is already a data field"),
        (lambda found: found.set_field(3, "labels", dtype=(str, list)), "must be of type str or list, not int"),
    ],
)
def test_invalid_fields_are_refused(assign: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        assign(element())


def test_get_and_pop() -> None:
    found = element()
    assert found.get("labels", 5) == 5
    assert found.get("img_path") == "a.png"
    assert found.pop("note") == "x"
    assert found.pop("img_path") == "a.png"
    assert found.pop("note", None) is None
    assert found.all_keys() == ["scale", "scores"]
    with pytest.raises(KeyError, match="no field 'note'"):
        found.pop("note")
    with pytest.raises(AttributeError, match="BaseDataElement has no field 'note'"):
        _ = found.note


def test_property_stores_its_value_under_a_private_name() -> None:
    found = Sample(metainfo={"a": 1})
    found.truth = PixelData(data=torch.zeros(2, 2))
    assert found.keys() == ["truth"]
    assert "truth" in found
    assert found.new().truth.shape == (2, 2)
    with pytest.raises(ArgumentError, match="'_truth' must be of type PixelData, not int"):
        found.truth = 3  # type: ignore[assignment]
    assert found.pop("truth").shape == (2, 2)
    assert found.keys() == []


def test_to_converts_nested_elements_and_leaves_the_original() -> None:
    found = Sample(metainfo={"a": 1}, scores=torch.zeros(3), name="n")
    found.truth = PixelData(data=torch.zeros(2, 2))
    moved = found.to(torch.float64)
    assert (moved.scores.dtype, moved.truth.data.dtype) == (torch.float64, torch.float64)
    assert (found.scores.dtype, found.truth.data.dtype) == (torch.float32, torch.float32)
    assert (moved.a, moved.name, type(moved)) == (1, "n", Sample)
    assert moved.cpu().scores.device.type == "cpu"


def test_conversion_to_numpy_and_back() -> None:
    found = BaseDataElement(scores=torch.zeros(3, requires_grad=True), inner=PixelData(data=torch.ones(2, 2)))
    found.boxes = SimpleNamespace(numpy=None)  # as MMDetection's boxes
    arrays = found.numpy()
    assert arrays.boxes is found.boxes
    assert isinstance(arrays.scores, np.ndarray)
    assert isinstance(arrays.inner.data, np.ndarray)
    back = arrays.to_tensor()
    assert torch.equal(back.inner.data, found.inner.data)
    assert not found.detach().scores.requires_grad


def test_new_copies_fields_that_are_not_given() -> None:
    found = element()
    assert found.new().to_dict().keys() == found.to_dict().keys()
    other = found.new(metainfo={"img_path": "c.png"}, labels=[1])
    assert other.to_dict() == {"img_path": "c.png", "labels": [1]}


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda found: pickle.loads(pickle.dumps(found))])
def test_copies_and_pickles_are_equal_and_share_no_fields(copied: Any) -> None:
    original = element()
    found = copied(original)
    assert found.metainfo == {"img_path": "a.png", "scale": (2, 3)}
    assert found.scores.tolist() == [0.0, 1.0, 2.0]
    found.set_metainfo({"img_path": "b.png"})
    found.labels = [1]
    assert (original.img_path, original.keys()) == ("a.png", ["scores", "note"])


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        BaseDataElement.clone,
        BaseDataElement.new,
        BaseDataElement.detach,
        lambda found: found.to("cpu"),
        lambda found: BaseDataElement(metainfo=found.metainfo),
    ],
)
def test_elements_do_not_share_their_metainfo(copied: Any) -> None:
    shape = [2, 3]
    original = BaseDataElement(metainfo={"shape": shape})
    found = copied(original)
    found.update(original)
    shape.append(4)
    original.shape.append(5)
    assert (original.shape, found.shape) == ([2, 3, 5], [2, 3])


def test_repr_shows_shapes_instead_of_values() -> None:
    found = BaseDataElement(metainfo={"a": 1}, scores=torch.zeros(3), inner=BaseDataElement(b="c"))
    assert repr(found) == (
        "BaseDataElement(\n  a (meta): 1\n  scores: Tensor (3,) float32\n  inner: BaseDataElement(\n    b: 'c'\n  )\n)"
    )
    assert repr(BaseDataElement()) == "BaseDataElement()"


def test_code_bases_read_the_names_of_fields_as_sets() -> None:
    found = BaseDataElement(metainfo={"path": "a.png"}, score=torch.ones(1))
    assert (found._data_fields, found._metainfo_fields) == ({"score"}, {"path"})


class Heatmaps(BaseDataElement):
    """Like MMPose's elements: a property with another name for its value, private state, and sets of its own."""

    def __init__(self, **settings: Any) -> None:
        object.__setattr__(self, "_levels", 0)
        super().__init__(**settings)

    @property
    def fields(self) -> Any:
        return self._maps

    @fields.setter
    def fields(self, value: Any) -> None:
        self._data_fields.add("_maps")
        object.__setattr__(self, "_maps", value)


def test_fields_are_the_names_that_were_assigned() -> None:
    # 4,000 random sequences of operations on such classes gave what mmengine 0.10.7 gives, but after a refused
    # assignment, which leaves its elements broken, and for `pop` of a property, whose value it loses.
    element = Heatmaps(metainfo={"path": "a.png"})
    assert (element.keys(), "fields" in element) == ([], False)
    element.fields = 3
    assert ("fields" in element, "_levels" in element) == (True, False)
    assert sorted(element.keys()) == ["_maps", "fields"]
    other = copy.copy(element)
    other.scores = 1
    assert ("scores" in other, "scores" in element, other.to("cpu").fields) == (True, False, 3)
    assert other.new().all_keys() == other.all_keys()
    assert pickle.loads(pickle.dumps(other)).to_dict() == {"path": "a.png", "_maps": 3, "scores": 1, "fields": 3}


def test_values_that_a_property_stores_itself_are_converted() -> None:
    class Stored(BaseDataElement):
        @property
        def points(self) -> Any:
            return self._points

        @points.setter
        def points(self, value: Any) -> None:
            object.__setattr__(self, "_points", value)

    element = Stored()
    element.points = torch.ones(2)
    assert isinstance(element.numpy().points, np.ndarray)
    assert isinstance(element.points, torch.Tensor)


def test_get_finds_attributes_that_are_no_fields_as_in_mmengine() -> None:
    element = BaseDataElement()
    object.__setattr__(element, "_level_0", 3)  # as MMPose's MultilevelPixelData stores its levels
    assert (element.get("_level_0"), element.get("_level_1"), "_level_0" in element) == (3, None, False)
