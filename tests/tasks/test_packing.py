import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.tasks.task_base import as_planes, chosen, loaded


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_a_picture_becomes_planes_with_memory_of_its_own(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    image.flags.writeable = False  # as one that is kept for the next epoch
    planes = as_planes(image)
    assert (planes.dtype, planes.is_contiguous()) == (torch.uint8, True)
    expected = image.reshape(4, 5, -1).transpose(2, 0, 1)
    assert np.array_equal(planes.numpy(), expected)
    planes += 1
    assert image.ravel()[0] == 0


def test_what_is_not_loaded_is_named() -> None:
    assert loaded({"img": 3}) == loaded({"picture": 3}, "picture") == 3
    with pytest.raises(DataError, match="there is no 'img'") as raised:
        loaded({"label": 1, "img_path": "a.png"})
    assert raised.value.found == ["img_path", "label"]


def test_only_what_is_there_is_chosen() -> None:
    assert chosen({"a": 1, "b": None, "c": 3}, ("b", "d", "a")) == {"b": None, "a": 1}
