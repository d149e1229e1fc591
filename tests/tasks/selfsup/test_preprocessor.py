from typing import Any

import pytest
import torch

from footplate.data import pseudo_collate
from footplate.errors import DataError
from footplate.registry import MODELS
from footplate.tasks.selfsup import SelfSupDataSample


def preprocessor() -> Any:
    return MODELS.build({"type": "SelfSupDataPreprocessor", "mean": [10], "std": [5]})


def sample(first: int, second: int) -> dict[str, Any]:
    views = [torch.full((1, 2, 2), value, dtype=torch.uint8) for value in (first, second)]
    return {"inputs": views, "data_samples": SelfSupDataSample()}


def test_each_view_becomes_one_tensor() -> None:
    batch = preprocessor()(pseudo_collate([sample(10, 20), sample(15, 0)]), training=True)
    assert [view[:, 0, 0, 0].tolist() for view in batch["inputs"]] == [[0, 1], [2, -2]]
    assert len(batch["data_samples"]) == 2


def test_pictures_without_views_are_one_view() -> None:
    batch = preprocessor()({"inputs": [torch.full((1, 2, 2), 15, dtype=torch.uint8)] * 3})
    assert [tuple(view.shape) for view in batch["inputs"]] == [(3, 1, 2, 2)]
    assert batch["data_samples"] is None


@pytest.mark.parametrize("data", [{}, {"inputs": []}, [torch.zeros(1)], {"inputs": torch.zeros(2, 1, 2, 2)}])
def test_views_are_needed(data: Any) -> None:
    with pytest.raises(DataError, match="a batch of views"):
        preprocessor()(data)
