from pathlib import Path

import numpy as np
import pytest
import torch

from footplate_openmmlab import removed


class Three:
    def __array__(self, dtype: object = None, copy: object = None) -> object:
        raise ValueError("three")


def test_removed_numpy_functions_return_what_they_did() -> None:
    assert removed.asfarray([1, 2]).dtype == np.float64
    assert removed.asfarray([1, 2], np.float32).dtype == np.float32
    assert removed.asfarray([1, 2], int).dtype == np.float64
    assert removed.array([np.ones((2, 1)), np.ones((2, 2))]).shape == (2,)
    with pytest.raises(ValueError, match="three"):
        removed.array(Three())
    assert removed.in1d([[1, 2], [3, 4]], [2, 3]).tolist() == [False, True, True, False]


def test_a_path_is_read_as_data_with_any_map_location(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"weight": torch.ones(2)}}, path)
    for place in (None, "cpu", torch.device("cpu"), lambda storage, place: storage, {"cuda:0": "cpu"}):
        assert removed.load(path, map_location=place)["state_dict"]["weight"].tolist() == [1.0, 1.0]
