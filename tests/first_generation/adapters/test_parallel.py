from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from footplate.data import default_collate
from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, DataError
from footplate.first_generation.adapters import DataContainer, MMDataParallel, collate, scatter
from footplate.first_generation.adapters.parallel import unpack_containers


def test_collate_containers() -> None:
    samples = [
        {
            "img": DataContainer(torch.ones(3, 2, width), stack=True, padding_value=7),
            "boxes": DataContainer(torch.ones(width, 4)),
            "meta": DataContainer({"width": width}, cpu_only=True),
            "label": width,
        }
        for width in (2, 3)
    ]
    batch = collate(samples)
    (whole,) = scatter(batch)
    assert whole["img"].shape == (2, 3, 2, 3)
    assert whole["img"][0, :, :, 2].tolist() == [[7.0, 7.0]] * 3
    assert [tuple(each.shape) for each in whole["boxes"]] == [(2, 4), (3, 4)]
    assert whole["meta"] == [{"width": 2}, {"width": 3}]
    assert whole["label"].tolist() == [2, 3]


def test_collate_plain_samples() -> None:
    samples = [{"a": np.ones(2), "b": [1, 2.0], "c": "x"}, {"a": np.zeros(2), "b": [3, 4.0], "c": "y"}]
    found, expected = collate(samples), default_collate(samples)
    assert torch.equal(found["a"], expected["a"])
    assert [each.tolist() for each in found["b"]] == [[1, 3], [2.0, 4.0]]
    assert found["c"] == ["x", "y"]


def test_collate_data_elements() -> None:
    samples: list[dict[str, Any]] = [{"inputs": torch.ones(2), "data_samples": PixelData()} for _ in range(2)]
    assert isinstance(collate(samples)["inputs"], list)


def test_collate_tensors_of_different_shapes_raises() -> None:
    with pytest.raises(DataError, match="cannot be stacked"):
        collate([torch.ones(2), torch.ones(3)])


def test_container_properties() -> None:
    container = DataContainer(torch.ones(2, 3), stack=True)
    assert (len(container), container.dim(), tuple(container.size()), container.size(0)) == (2, 2, (2, 3), 2)
    assert container.datatype == "torch.FloatTensor"
    assert DataContainer([1]).datatype is list
    assert repr(DataContainer([1])) == "DataContainer([1])"
    with pytest.raises(ArgumentError, match="pad_dims"):
        DataContainer(1, pad_dims=4)


def test_wrapped_model_unpacks_containers() -> None:
    class Model(nn.Module):
        def forward(self, img: Any, flag: bool = False) -> Any:
            return img, flag

        def train_step(self, data: Any, optimizer: Any) -> Any:
            return "train", data, optimizer

        def val_step(self, data: Any) -> Any:
            return "val", data

    wrapped = MMDataParallel(Model(), device_ids=[0])
    assert wrapped(DataContainer([3]), flag=True) == (3, True)
    assert wrapped.train_step({"a": DataContainer([4])}, None) == ("train", {"a": 4}, None)
    assert wrapped.val_step((DataContainer([5]),)) == ("val", (5,))
    assert unpack_containers([DataContainer([6])]) == [6]
